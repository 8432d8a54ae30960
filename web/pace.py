"""How much background work does at once, so that nobody who wants to write waits long for it."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.db.models import QuerySet

HOLD_SECONDS = 0.025  # what a batch should take; one that turns out slower stays under 0.05 as a rule
MAX_ROWS = 500
MAX_CHARS = 100_000  # of text in a batch: SQLite indexes or forgets as much in some 25 ms
FIRST_ROWS = 8

Row = TypeVar("Row")


class Pace:
    """Batches of `rows` rows, which grow and shrink by the time they take, with a rest after each.

    The time alone is not enough: a batch of short texts says nothing of the next one, so `bounded` bounds the text too.
    """

    def __init__(self) -> None:
        self.rows = FIRST_ROWS
        self._took = 0.0

    @contextmanager
    def batch(self) -> Iterator[int]:
        """One batch; gives how many rows it may have."""
        began_at = time.monotonic()
        yield self.rows
        self._took = time.monotonic() - began_at
        if self._took > HOLD_SECONDS:
            self.rows = max(1, round(self.rows * HOLD_SECONDS / self._took))
        elif self._took < HOLD_SECONDS / 2:
            self.rows = min(MAX_ROWS, 2 * self.rows)

    def rest(self) -> None:
        """Leave as much time to others as the last batch took."""
        time.sleep(self._took)


def delete_slowly(rows: QuerySet) -> int:
    """Delete rows of a table in short transactions. Return how many."""
    removed, pace = 0, Pace()
    while pks := list(rows.values_list("pk", flat=True)[: pace.rows]):
        with pace.batch():
            removed += rows.filter(pk__in=pks).delete()[0]
        pace.rest()
    return removed


def bounded(rows: Iterable[tuple[Row, int]], most: int) -> list[Row]:
    """The first rows of pairs with the length of their text: at most so many, and at most MAX_CHARS but at least one.

    It reads no further than that.
    """
    taken: list[Row] = []
    room = MAX_CHARS
    for row, length in rows:
        room -= length
        if taken and (room < 0 or len(taken) == most):
            break
        taken.append(row)
    return taken
