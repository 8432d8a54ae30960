"""The usage of processes and cores, from /proc; and a description of the machine."""

import contextlib
import datetime
import os
import platform
import sqlite3
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1_000_000
STAT_PARENT, STAT_TIMES = 1, slice(11, 15)  # fields after the command's name: ppid; utime, stime, cutime, cstime


@dataclass(frozen=True)
class Usage:
    """CPU seconds since the start: of the service, of its core (by anybody), of the database server.

    `memory`: megabytes that the service holds at the moment.
    """

    service: float
    core: float
    database: float
    memory: float = 0.0

    def since(self, earlier: "Usage") -> "Usage":
        cpu = (self.service - earlier.service, self.core - earlier.core, self.database - earlier.database)
        return Usage(*cpu, memory=self.memory)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the state on; the command's name before it may hold spaces."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def process_tree(root: int) -> list[int]:
    """`root` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[STAT_PARENT]), []).append(int(entry.name))
    tree = [root]
    for pid in tree:  # grows while it is walked
        tree.extend(children.get(pid, []))
    return tree


def cpu_seconds(root: int) -> float:
    """User and system time of all threads of the process and its descendants, including ended ones."""
    ticks = 0
    for pid in process_tree(root):
        with contextlib.suppress(OSError):
            ticks += sum(int(value) for value in _stat(pid)[STAT_TIMES])
    return ticks / TICKS


def core_seconds(core: int) -> float:
    """The core's busy time for all processes: user, nice, system, irq, softirq, steal."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *values = line.split()
        if name == f"cpu{core}":
            ticks = [int(value) for value in values]
            return (sum(ticks[:3]) + sum(ticks[5:8])) / TICKS
    raise ValueError(f"no core {core}")


def usage(service: int, core: int, database: int | None) -> Usage:
    return Usage(cpu_seconds(service), core_seconds(core), cpu_seconds(database) if database else 0.0, memory(service))


def memory(root: int) -> float:
    """Megabytes of the processes together; a page that parent and worker share counts once (proportional set size)."""
    kilobytes = 0
    for pid in process_tree(root):
        with contextlib.suppress(OSError):
            kilobytes += _kilobytes(PROC / str(pid) / "smaps_rollup", "Pss")
    return kilobytes * 1024 / MEGABYTE


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def fsync_seconds(directory: Path, times: int = 50) -> float:
    """The median time of an append of 4 KiB and fsync: the floor of a durable commit on this disk."""
    path = directory / "fsync"
    taken = []
    with path.open("wb") as file:
        for _ in range(times):
            start = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    path.unlink()
    return statistics.median(taken)


def _cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def filesystem(directory: Path) -> str:
    """The type of the file system that holds the directory."""
    best = ("", "unknown")
    for line in (PROC / "self" / "mounts").read_text().splitlines():
        _, mount, kind = line.split()[:3]
        if directory.resolve().is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def machine(scratch: Path, postgres_version: str | None) -> list[tuple[str, str]]:
    return [
        ("date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("processor", f"{_cpu_model()}, {os.cpu_count()} cores"),
        ("memory", f"{_kilobytes(PROC / 'meminfo', 'MemTotal') / 1024**2:.1f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("disk", f"{filesystem(scratch)}; write and fsync of 4 KiB: {fsync_seconds(scratch) * 1000:.2f} ms (median)"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("SQLite", sqlite3.sqlite_version),
        ("PostgreSQL", postgres_version or "not measured"),
        ("load average at the start", " ".join(f"{load:.2f}" for load in os.getloadavg())),
    ]
