"""Takes from a Python of Linux what one of Windows does not have, for a process that has this folder in PYTHONPATH.

It tries BancoBot's own code. The libraries are imported before, as they are here; the system's calls stay Linux'.
"""

import asyncio
import builtins
import contextlib
import functools
import importlib
import io
import os
import platform
import select
import signal
import socket
import ssl
import sys
import types
import warnings
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, lockf
from typing import Any

from testing.forked import LIBRARIES

MODULES = ("fcntl", "grp", "gunicorn", "pwd", "resource", "termios")
NAMES = {
    os: (
        "chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid",
        "getuid", "killpg", "mkfifo", "pipe2", "posix_fallocate", "pread", "pwrite", "sched_getaffinity", "setsid",
        "sysconf", "uname", "wait4", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
    ),
    select: ("epoll", "poll"),
    signal: ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2", "setitimer"),
    socket: ("AF_UNIX", "SO_REUSEPORT", "TCP_USER_TIMEOUT"),
}  # fmt: skip
OURS = r"(__main__|access|bancobot_project|chat|sessions_api|web)(\.|$)"
FORBIDDEN = '<>:"|?*'  # in the names of files


def take_away() -> None:
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in NAMES.items():
        for name in names:
            delattr(module, name)


class Proactor(asyncio.SelectorEventLoop):
    """Of what the loop for Windows can't do, see below."""


def cannot(*arguments: Any, **options: Any) -> Any:
    raise NotImplementedError


def change(owner: Any, **names: Any) -> None:
    for name, value in names.items():
        setattr(owner, name, value)


def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    """For opening: there is no /proc, names have fewer characters, and a folder can't be opened."""

    def guard(path: Any, *arguments: Any, **options: Any) -> Any:
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if name.startswith("/proc/"):
            raise FileNotFoundError(2, "No such file or directory", name)
        if call is real_open and (set(name) & set(FORBIDDEN) or os.path.isdir(name)):  # noqa: PTH112
            raise PermissionError(13, "Permission denied", name)
        return call(path, *arguments, **options)

    return guard


def refusing_open_files(call: Callable[..., Any]) -> Callable[..., Any]:
    """For removing and renaming: not what this process has open."""

    def guard(*paths: Any, **options: Any) -> Any:
        here = set()
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                here.add(real_readlink(f"/proc/self/fd/{number}"))
        if any(os.path.realpath(path) in here for path in paths):
            raise PermissionError(13, "The process cannot access the file: it is being used", paths[0])
        return call(*paths, **options)

    return guard


def locking(number: int, mode: int, size: int) -> None:
    try:
        lockf(number, LOCK_EX | LOCK_NB, size)
    except OSError:
        raise PermissionError(13, "Permission denied") from None


for library in (*LIBRARIES, "django.views.static", "uvicorn"):
    if not library.startswith("gunicorn"):
        importlib.import_module(library)
platform.uname()  # it is remembered
socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)  # of an event loop itself
take_away()
real_open, real_io_open, real_readlink = os.open, io.open, os.readlink
change(os, open=guarded(os.open), stat=guarded(os.stat), readlink=guarded(os.readlink))
change(os, unlink=refusing_open_files(os.unlink), replace=refusing_open_files(os.replace))
change(os, rename=refusing_open_files(os.rename))
change(io, open=guarded(real_io_open))
change(builtins, open=guarded(real_io_open))
change(socket, socketpair=socketpair)
loops = ("add_reader", "add_writer", "add_signal_handler", "create_unix_connection", "create_unix_server")
change(Proactor, **dict.fromkeys(loops, cannot))
change(asyncio, ProactorEventLoop=Proactor)
change(ssl.SSLContext, _load_windows_store_certs=lambda *_: None)
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
change(sys.modules["msvcrt"], LK_NBLCK=2, locking=locking)
for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="cp1252")
warnings.filterwarnings("error", category=EncodingWarning, module=OURS)
sys.platform = "win32"
