"""What a conversation is called until somebody gives it another name."""

LONGEST = 60  # characters of a title that nobody has chosen


def title_of(question: str) -> str:
    """The beginning of a conversation's first message, on one line and cut at a word."""
    text = " ".join(question[: LONGEST * 20].split())  # a message may be a whole document
    if len(text) <= LONGEST:
        return text
    whole_words = text[:LONGEST].rpartition(" ")[0]
    return f"{(whole_words or text[: LONGEST - 1]).rstrip(' ,;:.-')}…"
