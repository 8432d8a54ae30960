"""Where a service's CPU time goes, by package, with nothing but the standard library.

`python -m trials.bench.sampler OUTPUT manage.py serve …` runs the service as it is. Between two signals it samples
the worker.
A timer on the CPU time of the worker's main thread, which runs the event loop, interrupts it every few milliseconds
(the kernel's tick); the stack then says for whom it works. Of the other threads only their CPU time is known.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from testing.environment import ROOT

BEGIN, END, SAMPLE = signal.SIGRTMIN + 1, signal.SIGRTMIN + 2, signal.SIGALRM
INTERVAL_NANOSECONDS = 2_000_000
WAIT_SECONDS = 5.0
PACKAGES = "/site-packages/"
ITSELF = "event loop"


@dataclass(frozen=True)
class Profile:
    """CPU seconds of the main thread and of all others, and the main thread's samples by package."""

    main: float
    others: float
    samples: dict[str, int]


def begin(pid: int) -> None:
    os.kill(pid, BEGIN)


def end(pid: int) -> None:
    os.kill(pid, END)


def read(path: Path) -> Profile:
    """The worker's samples; FileNotFoundError if it wrote none."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    profile = Profile(**json.loads(path.read_text()))
    path.unlink()
    return profile


def package(filename: str) -> str | None:
    """The package of that code; None for the standard library, which counts for its caller."""
    if PACKAGES in filename:
        return filename.partition(PACKAGES)[2].partition("/")[0].removesuffix(".py")
    if filename.startswith(f"{ROOT}/"):
        parts = filename.removeprefix(f"{ROOT}/").split("/")[:-1]
        return ".".join(parts[:2]) or None
    return None


def label(frame: FrameType | None) -> str:
    """The innermost package on the stack. Frames below the event loop only started it."""
    while frame is not None and frame.f_code.co_name != "_run_once":
        if (name := package(frame.f_code.co_filename)) and name != __package__:
            return name
        frame = frame.f_back
    return ITSELF


class Sampler:
    """Lives in the worker; the handlers are set before the fork, the timer is made after it."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.samples: Counter[str] = Counter()
        self.began = (0.0, 0.0)
        self.c = ctypes.CDLL(None, use_errno=True)

    def install(self) -> None:
        signal.signal(BEGIN, self.begin)
        signal.signal(END, self.end)
        signal.signal(SAMPLE, self.sample)

    def begin(self, number: int, frame: FrameType | None) -> None:
        self.began = (time.thread_time(), time.process_time())
        self._start_timer()

    def sample(self, number: int, frame: FrameType | None) -> None:
        self.samples[label(frame)] += 1

    def end(self, number: int, frame: FrameType | None) -> None:
        main, everything = time.thread_time() - self.began[0], time.process_time() - self.began[1]
        signal.signal(SAMPLE, signal.SIG_IGN)
        profile = Profile(main, everything - main, dict(self.samples))
        partial = self.output.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(profile)))
        partial.rename(self.output)

    def _start_timer(self) -> None:
        """timer_create(2) on this thread's CPU clock; without a sigevent it sends SIGALRM."""
        timer = ctypes.c_void_p()
        spec = (ctypes.c_long * 4)(0, INTERVAL_NANOSECONDS, 0, INTERVAL_NANOSECONDS)
        if self.c.timer_create(time.CLOCK_THREAD_CPUTIME_ID, None, ctypes.byref(timer)):
            raise OSError(ctypes.get_errno(), "timer_create")
        if self.c.timer_settime(timer, 0, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timer_settime")


def main() -> None:
    output, *sys.argv = sys.argv[1:]
    Sampler(Path(output)).install()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
