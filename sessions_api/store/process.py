"""Names the process that runs a turn, so that another process on the machine can tell that it is gone.

And knows how far a silent process can be taken for dead: while the database was away, nobody could be heard.
"""

import functools
import math
import os
import socket
import time
from pathlib import Path


def _namespace() -> str:
    """This machine and process namespace; pids mean something within one alone."""
    try:
        return f"{socket.gethostname()[:60]}/{Path('/proc/self/ns/pid').readlink().name[5:-1]}"
    except OSError:  # not Linux: then the lease alone decides
        return socket.gethostname()[:60]


def _start_time(pid: int) -> str:
    """When a process began, in clock ticks since boot, since pids are used again; empty where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]  # a zombie runs nothing any more


@functools.cache
def _name(pid: int) -> str:
    return f"{_namespace()}:{pid}:{_start_time(pid)}"


def this_process() -> str:
    """This process's name. (Asked by pid, since a forked worker is another process.)"""
    return _name(os.getpid())


def is_gone(name: str) -> bool:
    """Whether that process is certainly no more. One on another machine may live for all we know."""
    namespace, _, process = name.partition(":")
    pid, _, started = process.partition(":")
    return namespace == _namespace() and bool(started) and pid.isdigit() and _start_time(int(pid)) != started


class Outages:
    """When the database last failed this process."""

    def __init__(self) -> None:
        self.last_at = -math.inf  # time.monotonic()

    def record_failure(self) -> None:
        self.last_at = time.monotonic()

    def over_for(self, seconds: float) -> bool:
        """Whether the database has been there for so long that whoever lives had time to be heard again."""
        return time.monotonic() - self.last_at > seconds


outages = Outages()
