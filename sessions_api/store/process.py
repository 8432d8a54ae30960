"""Names the process that runs a turn, so that another process on the machine can tell whether it still exists.

Also remembers database outages: during one, no process can write heartbeats, so silence proves nothing.
"""

import functools
import math
import os
import socket
import time
from pathlib import Path


def _namespace() -> str:
    """This machine and process namespace: pids are unique only within one."""
    try:
        return f"{socket.gethostname()[:60]}/{Path('/proc/self/ns/pid').readlink().name[5:-1]}"
    except OSError:  # not Linux: the lease alone decides
        return socket.gethostname()[:60]


def _start_time(pid: int) -> str:
    """When a process began, in clock ticks since boot, because pids are reused; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]  # a zombie runs nothing


@functools.cache
def _name(pid: int) -> str:
    return f"{_namespace()}:{pid}:{_start_time(pid)}"


def this_process() -> str:
    """This process's name. (Cached by pid: a forked worker is another process.)"""
    return _name(os.getpid())


def is_gone(name: str) -> bool:
    """Whether that process certainly does not exist any more. One on another machine may be alive."""
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
        """Whether the database has been back for that long, so that living processes have written heartbeats again."""
        return time.monotonic() - self.last_at > seconds


outages = Outages()
