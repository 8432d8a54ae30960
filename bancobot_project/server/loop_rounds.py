"""Which request goes on next on the event loop: in a burst, callers take turns.

The loop runs all that is ready before it looks at its sockets again. Thousands of requests at once, a millisecond each,
would keep everybody else waiting for seconds.
"""

import asyncio
from typing import Any

from bancobot_project.server.callers import CallerLines, name_of

AT_ONCE = 8  # requests that go on before the loop looks at its sockets


class LoopRounds:
    """Lets some requests pass in each round of the loop, at no cost where there are no more."""

    def __init__(self) -> None:
        self._passed = 0
        self._lines = CallerLines()

    async def turn(self, scope: dict[str, Any]) -> None:
        """Wait for this request's turn."""
        if self._passed < AT_ONCE and not self._lines.waiting:
            self._pass()
        else:
            await self._lines.join(name_of(scope["path"], dict(scope["headers"]), scope["client"]))

    def _pass(self) -> None:
        if not self._passed:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._passed += 1

    def _next_round(self) -> None:
        self._passed = 0
        while self._passed < AT_ONCE and (next_one := self._lines.next()):
            _, called = next_one
            called.set_result(None)
            self._pass()
