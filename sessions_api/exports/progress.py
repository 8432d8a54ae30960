"""A bar on a terminal that says how far an export or an import is."""

import time
from typing import TextIO

WIDTH = 30  # characters
PAUSE = 0.2  # seconds between two looks of the bar


class Progress:
    """Draws nothing where `stream` is no terminal. `total` and what is done are in the same unit, whichever."""

    def __init__(self, stream: TextIO, total: int, unit: str) -> None:
        self._stream, self._total, self._unit = stream, total, unit
        self._visible = stream.isatty()
        self._began_at = self._drawn_at = time.monotonic()

    def show(self, done: int) -> None:
        now = time.monotonic()
        if self._visible and now - self._drawn_at >= PAUSE:
            self._drawn_at = now
            part = min(done / self._total, 1) if self._total else 1
            bar = ("#" * round(part * WIDTH)).ljust(WIDTH, ".")
            rate = done / (now - self._began_at)
            self._stream.write(f"\r[{bar}] {part:4.0%}  {done:,} {self._unit}, {rate:,.0f}/s\x1b[K")
            self._stream.flush()

    def clear(self) -> None:
        if self._visible:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
