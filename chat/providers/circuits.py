"""The circuits of a provider: one for the way to it, and one for each model and key that fails.

A caller chooses the model and the key, so what comes back for them keeps nobody else out. Nobody but the operator can
bring about that no connection is made.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from types import TracebackType

from .base import ProviderError
from .circuit import Circuit, Ticket, is_outage

MAX_PAIRS = 1024  # remembered at most; those longest without news are forgotten
IDLE_SECONDS = 600.0  # after so long without news, a failure says nothing about now
LIST = ""  # in place of a model, for the list of models: no turn asks for a model of this name

Pair = tuple[str, bytes]  # a model, and a digest of the caller's key (empty: the server's)


class Circuits:
    """Most models never fail, so a pair gets a circuit with its first failure, and loses it with a success."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._way = Circuit(f"the provider {name}", clock=clock)
        self._pairs: OrderedDict[Pair, Circuit] = OrderedDict()  # those with the latest news at the end
        self._open: set[Pair] = set()  # of these, the models that fail
        self._secret = secrets.token_bytes(32)

    def pair(self, model: str, api_key: str | None) -> Pair:
        """What a turn's failures count for. It outlives the turn, so it holds no key that anybody could use."""
        if not api_key:
            return model, b""
        return model, blake2b(api_key.encode("utf-8", "replace"), digest_size=16, key=self._secret).digest()

    def enter(self, pair: Pair) -> "Tickets":
        """Tickets for one request, which has to end them. Raises `ProviderError` while a circuit is open."""
        circuit = self._pairs.get(pair)
        if circuit is None:
            return Tickets(self, pair, self._way.enter(), None)
        circuit.check()  # before a probe's place in the other circuit is taken
        way = self._way.enter()
        self._note(pair)
        return Tickets(self, pair, way, circuit.enter())

    def wait_seconds(self, pair: Pair) -> float:
        """Seconds until a request may go; 0.0 where it may go now."""
        circuit = self._pairs.get(pair)
        return max(self._way.wait_seconds(), circuit.wait_seconds() if circuit else 0.0)

    def try_acquire(self, model: str, api_key: str | None) -> float:
        circuit = self._circuit(model, api_key)
        return circuit.try_acquire() if circuit else 0.0

    def release(self, model: str, api_key: str | None) -> None:
        circuit = self._circuit(model, api_key)
        if circuit:
            circuit.release()

    @property
    def is_down(self) -> bool:
        return self._way.is_open

    @property
    def refuses_models(self) -> bool:
        self._forget_old()
        return bool(self._open)

    @property
    def failing_models(self) -> frozenset[str]:
        """The models with an open circuit that somebody has asked for lately."""
        found = [(pair[0], self._pairs.get(pair)) for pair in list(self._open)]  # the console asks from another thread
        return frozenset(model for model, circuit in found if circuit and not self._is_old(circuit))

    def answered(self, pair: Pair, ticket: Ticket | None, problem: ProviderError | None) -> None:
        """What the provider answered to a request of this pair."""
        if problem is not None and is_outage(problem):
            self._note(pair)
        circuit = self._pairs.get(pair)
        if ticket is None and circuit is not None:
            ticket = Ticket(circuit, 0)  # sent before the first failure: it counts unless the circuit has opened since
        if ticket is not None:
            ticket.end(problem)
        if circuit is None:
            return
        if circuit.is_open and pair[0] != LIST:
            self._open.add(pair)
        else:
            self._open.discard(pair)
        if problem is None and circuit.never_opened:
            del self._pairs[pair]

    def _circuit(self, model: str, api_key: str | None) -> Circuit | None:
        return self._pairs.get(self.pair(model, api_key)) if model else self._way

    def _note(self, pair: Pair) -> None:
        """There is news of the pair: it is kept, and what had none for long is not."""
        circuit = self._pairs.get(pair)
        if circuit is None:
            name = f"the model {pair[0]}" if pair[0] else "the list of models"
            circuit = self._pairs[pair] = Circuit(name, clock=self._clock)
        circuit.news_at = self._clock()
        self._pairs.move_to_end(pair)
        self._forget_old()

    def _forget_old(self) -> None:
        while self._pairs and (len(self._pairs) > MAX_PAIRS or self._is_old(next(iter(self._pairs.values())))):
            self._open.discard(self._pairs.popitem(last=False)[0])

    def _is_old(self, circuit: Circuit) -> bool:
        return circuit.news_at < self._clock() - IDLE_SECONDS


class Tickets:
    """A request's pass through both of its circuits. Only its first end counts; as a context manager, its block's.

    Whatever the provider answered, and even a time-out after connecting, shows that the way to it is open.
    """

    __slots__ = ("_circuits", "_ended", "_own", "_pair", "_way")

    def __init__(self, circuits: Circuits, pair: Pair, way: Ticket, own: Ticket | None) -> None:
        self._circuits = circuits
        self._pair = pair
        self._way = way
        self._own = own
        self._ended = False

    @property
    def is_probe(self) -> bool:
        """Whether all other requests for this model and key wait for this one's first words."""
        return self._own is not None and self._own.is_probe

    def connected(self) -> None:
        """An answer has begun."""
        self._way.end(None)

    def succeeded(self) -> None:
        self.end(None)

    def end(self, problem: BaseException | None) -> None:
        """Count a failed connection for all, an answer or a time-out for the pair, and nothing else."""
        if self._ended:
            return
        self._ended = True
        if problem is None or (isinstance(problem, ProviderError) and problem.connected):
            self._way.end(None)
            self._circuits.answered(self._pair, self._own, problem)
            return
        self._way.end(problem)
        if self._own is not None:
            self._own.give_back()

    def __enter__(self) -> "Tickets":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.end(exc)
