"""A circuit breaker: while the provider is down nobody waits for it, and it gets a single request now and then."""

import logging
import time
from collections.abc import Callable
from types import TracebackType

from .base import ProviderError

logger = logging.getLogger(__name__)

THRESHOLD = 5  # failures in a row
COOL_DOWN = 2.0  # seconds; with a request that hangs in between, a provider that is back is found in less than 5
OUTAGES = {"provider_error", "provider_invalid_response", "provider_timeout", "provider_unavailable"}
KEYS_REFUSED = {"provider_auth_failed", "provider_payment_required"}  # by a provider that answers


def is_outage(failure: ProviderError) -> bool:
    """Whether a failure is the provider's own, and not what one caller's key, model or request brings about.

    The codes alone don't tell: `provider_error` is also a redirect or an HTML page with status 413, which the next
    request would not get, and those are not retryable.
    """
    return failure.code == "provider_unreachable" or (failure.retryable and failure.code in OUTAGES)


class Circuit:
    """Opens after `threshold` failures in a row. Then one request a `cool_down` may try, until one succeeds.

    One whose key is refused shows that the provider answers, and no more: all may go then, until the first failure.

    `clock` gives seconds. It belongs to one event loop: nothing in it waits, so nothing has to be locked.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = THRESHOLD,
        cool_down: float = COOL_DOWN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._threshold = threshold
        self._cool_down = cool_down
        self._clock = clock
        self._failures = 0
        self._on_trial = False  # closed by no success, but by a refused key
        self._next_try: float | None = None  # none while the circuit is closed
        self._probe: Ticket | None = None
        self._door_opens = 0.0
        self._period = 0  # how often it has opened and closed: what was sent before says nothing about now

    @property
    def is_open(self) -> bool:
        return self._next_try is not None

    def closed_for(self) -> float:
        """Seconds until a request may go, 0.0 where it may go now. Lets nobody in: that is `enter`."""
        return 0.0 if self._next_try is None else max(0.0, self._next_try - self._clock())

    def try_acquire(self) -> float:
        """As `closed_for`, for a turn that is to be stored before its request is sent: lets in one a cool-down.

        All that try_acquire before that request would else be stored, and fail.
        """
        wait = self.closed_for()
        if self._next_try is None or wait:
            return wait
        now = self._clock()
        if now < self._door_opens:
            return self._door_opens - now
        self._door_opens = now + self._cool_down
        return 0.0

    def release(self) -> None:
        """A try_acquire came to nothing: its turn was not begun. The next one may try_acquire at once."""
        self._door_opens = 0.0

    def enter(self) -> "Ticket":
        """For one request, which has to end its ticket; raises `ProviderError` while the circuit is open."""
        if self._next_try is None:
            return Ticket(self, self._period)
        wait = self.closed_for()
        if wait > 0:
            raise ProviderError("provider_unavailable", "the circuit is open", retryable=True, retry_after=wait)
        self._next_try = self._clock() + self._cool_down  # of the next one, should this one hang
        self._probe = Ticket(self, self._period, is_probe=True)
        return self._probe

    def succeeded(self, ticket: "Ticket") -> None:
        if ticket.period != self._period:
            return
        self._failures = 0
        if self._next_try is not None or self._on_trial:
            self._close(on_trial=False)
            logger.warning("the provider %s answers again", self._name)

    def refused_a_key(self, ticket: "Ticket") -> None:
        """While it is open: else a crowd with made-up keys would send every probe, and keep good ones out for long."""
        if self._next_try is not None and ticket.period == self._period:
            self._close(on_trial=True)
            self._failures = self._threshold - 1

    def failed(self, ticket: "Ticket", failure: ProviderError) -> None:
        if ticket.period != self._period:
            return
        if self._next_try is None:
            self._failures += 1
            if self._failures >= self._threshold:
                self._open(failure)
        elif ticket is self._probe:  # one that hung has been followed by another, which decides
            self._next_try, self._probe = self._clock() + self._cool_down, None

    def left(self, ticket: "Ticket") -> None:
        """The request ended without telling anything: the next one may try at once."""
        if ticket is self._probe:
            self._next_try, self._probe = self._clock(), None
            self._door_opens = 0.0

    def _open(self, failure: ProviderError) -> None:
        self._next_try = self._clock() + self._cool_down
        self._period += 1
        if self._on_trial:  # nobody was told that it answers again
            self._on_trial = False
            return
        reason = {"code": failure.code, "reason": failure.detail}
        logger.warning("the provider %s is down: requests fail at once until it answers", self._name, extra=reason)

    def _close(self, *, on_trial: bool) -> None:
        self._next_try, self._probe = None, None
        self._door_opens = 0.0
        self._on_trial = on_trial
        self._period += 1


class Ticket:
    """One request's way through the circuit. What ends it first counts; as a context manager, how the block ends."""

    __slots__ = ("_circuit", "_ended", "is_probe", "period")

    def __init__(self, circuit: Circuit, period: int, *, is_probe: bool = False) -> None:
        self.period = period
        self.is_probe = is_probe
        self._circuit = circuit
        self._ended = False

    def succeeded(self) -> None:
        self.end(None)

    def end(self, problem: BaseException | None) -> None:
        """A provider's own failure counts against it; a caller's, or a cancellation, counts as nothing."""
        if self._ended:
            return
        self._ended = True
        if problem is None:
            self._circuit.succeeded(self)
        elif isinstance(problem, ProviderError) and is_outage(problem):
            self._circuit.failed(self, problem)
        elif isinstance(problem, ProviderError) and problem.code in KEYS_REFUSED:
            self._circuit.refused_a_key(self)
        else:
            self._circuit.left(self)

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.end(exc)
