"""Which request goes on next on the event loop: in a burst, callers take turns.

The loop runs all that is ready before it looks at its sockets again. Thousands of requests at once, a millisecond each,
would keep everybody else waiting for seconds.
"""

import asyncio
from collections import deque
from typing import Any

from bancobot_project.server.threads import name_of

AT_ONCE = 8  # requests that go on before the loop looks at its sockets


class Ticks:
    """Lets some requests pass in each round of the loop, at no cost where there are no more."""

    def __init__(self) -> None:
        self._passed = 0
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of the callers' turns

    async def turn(self, scope: dict[str, Any]) -> None:
        """Wait for this request's turn."""
        if self._passed < AT_ONCE and not self._lines:
            self._pass()
            return
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caller = name_of(scope["path"], dict(scope["headers"]), scope["client"])
        self._lines.setdefault(caller, deque()).append(called)
        await called

    def _pass(self) -> None:
        if not self._passed:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._passed += 1

    def _next_round(self) -> None:
        self._passed = 0
        while self._lines and self._passed < AT_ONCE:
            caller = next(iter(self._lines))
            line = self._lines.pop(caller)
            called = line.popleft()
            if line:
                self._lines[caller] = line  # its next turn comes after all others'
            if not called.done():  # otherwise the client left
                called.set_result(None)
                self._pass()
