"""Tells which variables are probably meant as settings, and are none."""

from collections.abc import Collection
from difflib import SequenceMatcher, get_close_matches

FILE_LIKENESS = 0.75  # of a name in the file of settings; 1 is the same
LIKENESS = 0.85  # of a name in the environment, which has many that are not ours
WORD_LIKENESS = 0.6  # of each word, where there are as many
OF_OTHERS = {  # as other programs call them
    "OPENAI_API_BASE": "OPENAI_BASE_URL",
    "OPENAI_MODEL": "OPENAI_DEFAULT_MODEL",
}
PREFIXES, ENDINGS = ("BANCOBOT_", "DJANGO_"), ("_FILE",)  # with which others would read a variable, or a file


def nearest(name: str, known: Collection[str], *, in_file: bool) -> str:
    """The setting that is probably meant by a name that is none, or an empty text."""
    capitals = name.upper()
    inner = next((capitals.removeprefix(prefix) for prefix in PREFIXES if capitals.startswith(prefix)), capitals)
    inner = next((inner.removesuffix(ending) for ending in ENDINGS if inner.endswith(ending)), inner)
    # The environment may have a PORT or a HOST of anything: BANCOBOT_PORT is Kubernetes' own.
    if inner in known and (in_file or "_" in inner):
        return inner
    if in_file:
        return OF_OTHERS.get(capitals) or _closest(capitals, known, FILE_LIKENESS)
    return _closest(capitals, [one for one in known if len(one) > len("WORKERS")], LIKENESS)


def _closest(name: str, known: Collection[str], likeness: float) -> str:
    return next((one for one in get_close_matches(name, known, 3, likeness) if _alike_in_words(name, one)), "")


def _alike_in_words(name: str, other: str) -> bool:
    """OPENAI_API_TYPE is close to OPENAI_API_KEY, but none of its words is misspelt."""
    words, others = name.split("_"), other.split("_")
    pairs = zip(words, others, strict=False)
    return len(words) != len(others) or all(
        SequenceMatcher(None, word, meant).ratio() >= WORD_LIKENESS for word, meant in pairs
    )
