"""A circuit breaker: while something is down, requests fail at once, and a single one tries it now and then."""

import logging
import time
from collections.abc import Callable

from .base import ProviderError

logger = logging.getLogger(__name__)

THRESHOLD = 5  # failures in a row
COOL_DOWN = 2.0  # seconds; a provider that is back is found in less than 5, even if a request hangs in between
OUTAGES = {"provider_error", "provider_invalid_response", "provider_timeout", "provider_unavailable"}
KEYS_REFUSED = {"provider_auth_failed", "provider_payment_required"}  # the provider answers, but not to this key


def is_outage(failure: ProviderError) -> bool:
    """Whether the provider itself failed. A caller's key, model or request may be the cause of other failures.

    The code alone does not tell: a redirect, or an HTML page with status 413, is a `provider_error` too. The next
    request would not get it, and it is not retryable.
    """
    return failure.code == "provider_unreachable" or (failure.retryable and failure.code in OUTAGES)


class Circuit:
    """Opens after `threshold` failures in a row. Then one request per `cool_down` probes, until one succeeds.

    A probe whose key is refused shows that the provider answers, and no more. The circuit is then half-open: all
    requests may go, and the first failure opens it again.

    `name` tells the log what is behind the circuit. `clock` gives seconds. A circuit belongs to one event loop and
    never waits, so it needs no lock.
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
        self._half_open = False  # a refused key let requests in again, and none has succeeded yet
        self._next_try: float | None = None  # `None` unless the circuit is open
        self._probe: Ticket | None = None
        self._next_turn = 0.0  # when `try_acquire` may let a turn begin, while the circuit is open
        self.news_at = clock()  # for the owner of many circuits, which sets it
        self._period = 0  # counts the changes of state: a request sent before the last one says nothing about now

    @property
    def is_open(self) -> bool:
        return self._next_try is not None

    @property
    def never_opened(self) -> bool:
        return self._period == 0

    def wait_seconds(self) -> float:
        """Seconds until a request may go; 0.0 where it may go now. Only `enter` lets it go."""
        return 0.0 if self._next_try is None else max(0.0, self._next_try - self._clock())

    def try_acquire(self) -> float:
        """As `wait_seconds`, for a turn that is stored before its request is sent. Lets one turn begin per cool-down.

        Without this, all turns that ask before the probe is sent would be stored, and fail.
        """
        wait = self.wait_seconds()
        if self._next_try is None or wait:
            return wait
        now = self._clock()
        if now < self._next_turn:
            return self._next_turn - now
        self._next_turn = now + self._cool_down
        return 0.0

    def release(self) -> None:
        """The turn of the last `try_acquire` did not begin, so the next one may."""
        self._next_turn = 0.0

    def check(self) -> None:
        """Raise `ProviderError` while no request may go. Nothing was sent, so nothing was billed."""
        if self._next_try is not None and (wait := self.wait_seconds()) > 0:
            raise ProviderError("provider_unavailable", "the circuit is open", retryable=True, retry_after=wait)

    def enter(self) -> "Ticket":
        """A ticket for one request, which has to end it. Raises `ProviderError` while the circuit is open."""
        if self._next_try is None:
            return Ticket(self, self._period)
        self.check()
        self._next_try = self._clock() + self._cool_down  # for another probe, in case this one hangs
        self._probe = Ticket(self, self._period, is_probe=True)
        return self._probe

    def succeeded(self, ticket: "Ticket") -> None:
        if ticket.period != self._period:
            return
        self._failures = 0
        if self._next_try is not None or self._half_open:
            self._close(half_open=False)
            logger.warning("%s answers again", self._name)

    def key_refused(self, ticket: "Ticket") -> None:
        """Half-open an open circuit. Otherwise made-up keys could use up all probes, and keep good keys out."""
        if self._next_try is not None and ticket.period == self._period:
            self._close(half_open=True)
            self._failures = self._threshold - 1

    def failed(self, ticket: "Ticket", failure: ProviderError) -> None:
        if ticket.period != self._period:
            return
        if self._next_try is None:
            self._failures += 1
            if self._failures >= self._threshold:
                self._open(failure)
        elif ticket is self._probe:  # after a probe that hung, a later one decides
            self._next_try, self._probe = self._clock() + self._cool_down, None

    def ended_without_news(self, ticket: "Ticket") -> None:
        """The request ended and told nothing of the provider: the next one may probe at once."""
        if ticket is self._probe:
            self._next_try, self._probe = self._clock(), None
            self._next_turn = 0.0

    def _open(self, failure: ProviderError) -> None:
        self._next_try = self._clock() + self._cool_down
        self._period += 1
        if self._half_open:  # the log does not say yet that it answers again
            self._half_open = False
            return
        reason = {"code": failure.code, "reason": failure.detail}
        logger.warning("%s is down: requests fail at once until it answers", self._name, extra=reason)

    def _close(self, *, half_open: bool) -> None:
        self._next_try, self._probe = None, None
        self._next_turn = 0.0
        self._half_open = half_open
        self._period += 1


class Ticket:
    """A request's pass through one circuit. Only its first end counts."""

    __slots__ = ("_circuit", "_ended", "is_probe", "period")

    def __init__(self, circuit: Circuit, period: int, *, is_probe: bool = False) -> None:
        self.period = period
        self.is_probe = is_probe
        self._circuit = circuit
        self._ended = False

    def end(self, problem: BaseException | None) -> None:
        """What failed behind the circuit counts against it. A caller's failure or a cancellation counts as nothing."""
        if self._ended:
            return
        self._ended = True
        if problem is None:
            self._circuit.succeeded(self)
        elif isinstance(problem, ProviderError) and is_outage(problem):
            self._circuit.failed(self, problem)
        elif isinstance(problem, ProviderError) and problem.code in KEYS_REFUSED:
            self._circuit.key_refused(self)
        else:
            self._circuit.ended_without_news(self)

    def give_back(self) -> None:
        """The request came not so far as to tell anything."""
        if not self._ended:
            self._ended = True
            self._circuit.ended_without_news(self)
