"""The title of a conversation until somebody gives it another one."""

MAX_TITLE_CHARS = 60  # of a title that nobody has chosen


def title_of(question: str) -> str:
    """The beginning of the first message, on one line and cut at a word."""
    text = " ".join(question[: MAX_TITLE_CHARS * 20].split())  # a message may be a whole document
    if len(text) <= MAX_TITLE_CHARS:
        return text
    whole_words = text[:MAX_TITLE_CHARS].rpartition(" ")[0]
    return f"{(whole_words or text[: MAX_TITLE_CHARS - 1]).rstrip(' ,;:.-')}…"
