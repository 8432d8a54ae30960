"""`python -m trials.torture.greedy.load KIND URL KEY`: one kind of greed, until it is stopped.

A process of its own, so that the innocent callers' clock does not measure the greedy client's work.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

from testing.environment import ROOT, clean_environment
from trials.torture.greedy.floods import FLOODS
from trials.torture.greedy.target import Target

STOP_SECONDS = 10


@contextlib.contextmanager
def running(kind: str, url: str, key: str) -> Iterator[None]:
    """The load, as long as the block lasts. Raises `RuntimeError` where it ended by itself: then it tried nothing."""
    command = (sys.executable, "-m", __name__, kind, url, key)
    process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stderr=subprocess.PIPE, text=True)
    try:
        yield
        if process.poll() is not None:
            assert process.stderr
            raise RuntimeError(f"the greedy caller gave up: {process.stderr.read()[-1000:]}")
    finally:
        process.kill()
        process.communicate(timeout=STOP_SECONDS)


if __name__ == "__main__":
    _, kind, url, key = sys.argv
    asyncio.run(FLOODS[kind](Target(url, {"Authorization": f"Bearer {key}"})))
