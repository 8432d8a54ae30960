"""Numbers are searched for with and without their punctuation: 1234,56 also finds 1.234,56."""

from collections.abc import Callable, Iterator
from itertools import chain, groupby, islice, product

# How people group this many digits: CPF, CNPJ, telephone numbers with and without codes, dates, postal codes, cards.
GROUPS = {
    8: ((5, 3), (2, 2, 4), (4, 2, 2), (4, 4)),
    9: ((5, 4),),
    10: ((2, 4, 4),),
    11: ((3, 3, 3, 2), (2, 5, 4)),
    12: ((2, 2, 4, 4),),
    13: ((2, 2, 5, 4),),
    14: ((2, 3, 3, 4, 2),),
    16: ((4, 4, 4, 4),),
}
MAX_READINGS = 20  # of numbers that stand together
MAX_DIGITS = 20  # of numbers that may be one

Reading = tuple[str, ...]  # words that must all be there


def readings(words: list[str]) -> list[list[Reading]]:
    """For each word, or numbers that stand together, the ways in which it may have been written."""
    choices = list[list[Reading]]()
    for are_numbers, run in groupby(words, key=_is_number):
        together = list(run)
        choices += [_of_numbers(together)] if are_numbers else [[(word,)] for word in together]
    return [choice for number, choice in enumerate(choices) if choice not in choices[:number]]


def written(choices: list[list[Reading]], term: Callable[[str], str], both: str, either: str) -> str:
    """A query in the database's own language. `term`: a word in it."""
    ways = ([f"({both.join(map(term, reading))})" for reading in choice] for choice in choices)
    return both.join(f"({either.join(choice)})" for choice in ways)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal()


def _of_numbers(numbers: list[str]) -> list[Reading]:
    """As they stand, or split, or as one number, or as one number with decimals."""
    as_they_stand = (tuple(chain.from_iterable(parts)) for parts in product(*map(_split, numbers)))
    joined = [("".join(numbers),), ("".join(numbers[:-1]), numbers[-1])] if len("".join(numbers)) <= MAX_DIGITS else []
    return list(dict.fromkeys([*islice(as_they_stand, MAX_READINGS), *(joined if len(numbers) > 1 else [])]))


def _split(number: str) -> Iterator[Reading]:
    yield (number,)
    if 4 <= len(number) <= MAX_DIGITS:
        begin = len(number) % 3
        yield tuple(filter(None, [number[:begin], *(number[at : at + 3] for at in range(begin, len(number), 3))]))
    for sizes in GROUPS.get(len(number), ()):
        ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
        yield tuple(number[end - size : end] for size, end in zip(sizes, ends, strict=True))
