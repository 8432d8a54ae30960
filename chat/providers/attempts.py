"""Sends a request until the provider accepts it: through its circuits, and again only where nothing was accepted."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import httpx

from . import errors
from .base import ProviderError
from .circuits import Circuits, Pair, Tickets
from .replies.body import read_whole

MAX_WAIT = 5.0  # seconds; where the provider asks for a longer pause, the turn fails and says so
SHORT_WAIT = 1.0  # seconds; where another model can be asked instead, no longer pause is waited out
MIN_PAUSE = 0.1  # seconds between two attempts
MAX_ERROR_BYTES = 64 * 1024  # bytes
ERROR_PATIENCE = 5.0  # seconds for the body of an error, whose status is known

Send = Callable[[], Awaitable[httpx.Response]]
Repair = Callable[[ProviderError], bool]


class Attempts:
    """`retries`: how often a request may be sent again. `pause`: seconds before the first of these."""

    def __init__(self, circuits: Circuits, *, retries: int, pause: float) -> None:
        self._circuits = circuits
        self._retries = retries
        self._pause = pause

    async def accepted(
        self, send: Send, pair: Pair, *, has_fallback: bool = False, repair: Repair = lambda refusal: False
    ) -> tuple[httpx.Response, Tickets]:
        """The answer, which has status 200, and the tickets that end with it. `pair`: see `Circuits.pair`.

        Tries again only where the provider did not accept the request and the circuits are closed. `has_fallback`:
        another model can be asked instead. `repair` is told of a refusal, and says whether `send` sends another request
        from now on. That one goes at once, and is no retry.
        """
        attempt = 0
        while True:
            tickets = self._circuits.enter(pair)
            try:
                response = await _attempt(send)
                tickets.connected()
                return response, tickets
            except ProviderError as refusal:
                tickets.end(refusal)
                if repair(refusal):
                    continue
                asked = refusal.retry_after or 0.0
                again = isinstance(refusal, errors.NotAcceptedError) and attempt < self._retries
                if not again or not _is_soon(refusal, has_fallback) or self._circuits.wait_seconds(pair):
                    raise
            except BaseException as exc:  # the circuits have to know of a cancelled request too
                tickets.end(exc)
                raise
            await asyncio.sleep(max(asked, self._backoff(attempt)))
            attempt += 1

    def _backoff(self, attempt: int) -> float:
        doubled: float = self._pause * 2**attempt
        return max(MIN_PAUSE, doubled * random.uniform(0.5, 1.0))


def _is_soon(refusal: ProviderError, has_fallback: bool) -> bool:
    """Whether the same request is worth a wait. Without a connection no other model could be asked either."""
    if has_fallback and refusal.connected:
        return refusal.retry_after is not None and refusal.retry_after <= SHORT_WAIT
    return (refusal.retry_after or 0.0) <= MAX_WAIT


async def _attempt(send: Send) -> httpx.Response:
    try:
        response = await send()
    except errors.TRANSPORT_ERRORS as exc:
        raise errors.from_transport(exc) from exc
    if 200 <= response.status_code < 300:
        return response
    try:
        async with asyncio.timeout(ERROR_PATIENCE):
            body = await read_whole(response, MAX_ERROR_BYTES)
    except (*errors.TRANSPORT_ERRORS, ProviderError):
        body = b""  # the status is enough
    raise errors.from_status(response.status_code, body, response.headers)
