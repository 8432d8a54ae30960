"""The title of a conversation until somebody gives it another one, and where a title may be cut.

A cut never goes through what people see as one character (a grapheme cluster of Unicode's annex 29): an emoji made
of several, a flag, a letter with its accents, a Hangul or Devanagari syllable. A few rare pairs stay together.
"""

import re
from unicodedata import category, combining

MAX_TITLE_CHARS = 60  # of a title that nobody has chosen; Unicode's characters, as the database counts them

JOINER = "\u200d"
# What goes on with the character before, beside the marks (category M): joiners, skin tones, tags of flags, jamo.
ADDED = re.compile(
    "[\u200c\u200d\u0e33\u0eb3\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u1160-\u11ff\ud7b0-\ud7fb]"
)
# What the next character goes on with.
BEGUN = re.compile(
    "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3\U0001193f\U00011941"
    "\U00011a3a\U00011a84-\U00011a89\U00011d46\U00011f02]"
)
CONSONANTS, SYLLABLES = re.compile("[\u1100-\u115f\ua960-\ua97c]"), re.compile("[\u1100-\u115f\ua960-\ua97c가-힣]")
REGIONAL = re.compile("[\U0001f1e6-\U0001f1ff]*$")  # two of them are a flag
VIRAMA = 9  # its canonical combining class; it binds the consonant after it


def title_of(question: str) -> str:
    """The beginning of the first message, on one line and cut at a word."""
    text = " ".join(whole(question.lstrip(), MAX_TITLE_CHARS * 20).split())  # a message may be a whole document
    if len(text) <= MAX_TITLE_CHARS:
        return text
    whole_words = text[:MAX_TITLE_CHARS].rpartition(" ")[0]
    return f"{(whole_words or whole(text, MAX_TITLE_CHARS - 1)).rstrip(' ,;:.-')}…"


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters, which ends with … where it was cut."""
    return text if len(text) <= most else f"{whole(text, most - 1)}…"


def whole(text: str, most: int) -> str:
    """The beginning of a text: at most `most` characters, the last one whole."""
    end = most
    while 0 < end < len(text) and is_within(text, end):
        end -= 1
    return text[:end]


def is_within(text: str, place: int) -> bool:
    """Whether people see what stands before and after a place as one character."""
    before, after = text[place - 1], text[place]
    if before in "\n\r" or after in "\n\r":
        return before + after == "\r\n"
    if category(after)[0] == "M" or ADDED.match(after) or before == JOINER or BEGUN.match(before):
        return True
    if "\U0001f1e6" <= after <= "\U0001f1ff":
        flags = REGIONAL.search(text, 0, place)
        return flags is not None and len(flags.group()) % 2 == 1
    if CONSONANTS.match(before):
        return bool(SYLLABLES.match(after))
    return category(after) == "Lo" and _is_bound(text, place)


def _is_bound(text: str, place: int) -> bool:
    """Whether the marks before a place have a virama."""
    while place and category(text[place - 1])[0] == "M":
        place -= 1
        if combining(text[place]) == VIRAMA:
            return True
    return False
