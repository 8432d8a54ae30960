"""Who a request comes from, and the lines in which callers wait so that nobody waits behind all requests of another."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.http.cookie import parse_cookie

from access.authentication import header_in, identifier_in, identify
from access.keyring import keyring
from access.limits import network_of
from web.errors import ApiError

Called = asyncio.Future[None]  # done when its turn has come
NAMING = {b"x-api-key": "HTTP_X_API_KEY", b"authorization": "HTTP_AUTHORIZATION"}  # headers that name the caller


class CallerLines:
    """A line for each caller that waits; the callers take turns."""

    def __init__(self) -> None:
        self.waiting = 0  # in all lines
        self._lines: dict[str, deque[Called]] = {}  # in the order of the callers' turns

    def length(self, caller: str) -> int:
        return len(self._lines.get(caller, ()))

    def join(self, caller: str) -> Called:
        called: Called = asyncio.get_running_loop().create_future()
        self._lines.setdefault(caller, deque()).append(called)
        self.waiting += 1
        return called

    def leave(self, caller: str, called: Called) -> None:
        """For one that was cancelled; it may be out of its line already."""
        if called in self._lines.get(caller, ()):
            self._lines[caller].remove(called)
            self._shorter(caller, at_the_end=False)

    def next(self, may_go: Callable[[str], bool] = lambda caller: True) -> tuple[str, Called] | None:
        """The one whose turn it is among the callers that may go; its caller's next turn comes after all others'."""
        while caller := next(filter(may_go, self._lines), ""):
            called = self._lines[caller].popleft()
            self._shorter(caller, at_the_end=True)
            if not called.cancelled():
                return caller, called
        return None

    def _shorter(self, caller: str, *, at_the_end: bool) -> None:
        self.waiting -= 1
        if at_the_end or not self._lines[caller]:
            line = self._lines.pop(caller)
            if line:
                self._lines[caller] = line


def name_of(path: str, headers: dict[bytes, bytes], client: tuple[str, int] | None) -> str:
    """Whose turn a request takes: its owner's, whichever of the owner's keys it has, or the login's, or the address's.

    It asks no database. A key that this process has not seen yet counts for its address.
    """
    if path.startswith("/admin"):
        cookies = parse_cookie(headers.get(b"cookie", b"").decode("latin-1"))
        if login := cookies.get(settings.SESSION_COOKIE_NAME):
            return f"login:{hashlib.sha256(login.encode()).hexdigest()}"
    elif sent := header_in({name: headers[raw].decode("latin-1") for raw, name in NAMING.items() if raw in headers}):
        with suppress(ApiError):
            return identify(sent, keyring.last_known(identifier_in(sent) or "")).owner
    return f"address:{network_of(client[0] if client else '')}"
