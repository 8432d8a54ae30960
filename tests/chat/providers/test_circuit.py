"""The circuit breaker alone: when it opens, who may probe, and what closes it."""

import asyncio
import logging

import pytest

from chat.providers import ProviderError
from chat.providers.circuit import COOL_DOWN, THRESHOLD, Circuit, Ticket
from tests.support.clock import Clock

DOWN = ProviderError("provider_unreachable")
REFUSED = ProviderError("provider_auth_failed")
UNKNOWN = ProviderError("unsupported_model")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit("the provider scripted", clock=clock)


def fail(circuit: Circuit, times: int = 1) -> None:
    for _ in range(times):
        circuit.enter().end(DOWN)


def opened(circuit: Circuit) -> Circuit:
    fail(circuit, THRESHOLD)
    return circuit


def probing(circuit: Circuit, clock: Clock) -> Ticket:
    """The probe of an open circuit, as soon as it is allowed."""
    clock.now += circuit.wait_seconds()
    return circuit.enter()


def test_it_opens_when_so_many_in_a_row_have_failed(circuit: Circuit) -> None:
    fail(circuit, THRESHOLD - 1)
    assert circuit.wait_seconds() == 0
    fail(circuit)
    assert circuit.wait_seconds() == COOL_DOWN


def test_one_turn_begins_per_cool_down(circuit: Circuit, clock: Clock) -> None:
    """A turn is committed before its request is sent, and many may ask meanwhile."""
    assert [circuit.try_acquire() for _ in range(3)] == [0, 0, 0]
    opened(circuit)
    assert circuit.try_acquire() == COOL_DOWN
    clock.now += COOL_DOWN
    assert [circuit.try_acquire() for _ in range(3)] == [0, COOL_DOWN, COOL_DOWN]
    clock.now += COOL_DOWN
    assert circuit.try_acquire() == 0
    circuit.enter().end(None)
    assert [circuit.try_acquire() for _ in range(3)] == [0, 0, 0]


def test_a_release_lets_the_next_turn_begin_at_once(circuit: Circuit, clock: Clock) -> None:
    """The turn was refused for another reason, such as its owner's budget."""
    opened(circuit)
    clock.now += COOL_DOWN
    assert circuit.try_acquire() == 0
    assert circuit.try_acquire() > 0
    circuit.release()
    assert circuit.try_acquire() == 0
    circuit.enter().end(UNKNOWN)  # which says nothing about the provider
    assert circuit.try_acquire() == 0


def test_a_success_begins_the_count_again(circuit: Circuit) -> None:
    fail(circuit, THRESHOLD - 1)
    circuit.enter().end(None)
    fail(circuit, THRESHOLD - 1)
    assert circuit.wait_seconds() == 0


def test_what_says_nothing_about_the_provider_neither_counts_nor_begins_the_count_again(circuit: Circuit) -> None:
    for other in (REFUSED, asyncio.CancelledError(), UNKNOWN):
        fail(circuit)
        circuit.enter().end(other)
    fail(circuit, THRESHOLD - 4)
    assert circuit.wait_seconds() == 0
    fail(circuit)
    assert circuit.wait_seconds() > 0


def test_while_open_it_says_when_to_come_back_and_that_nothing_was_billed(circuit: Circuit, clock: Clock) -> None:
    opened(circuit)
    clock.now += 0.5
    with pytest.raises(ProviderError) as refused:
        circuit.enter()
    error = refused.value
    assert (error.code, error.retryable, error.may_have_been_billed) == ("provider_unavailable", True, False)
    assert error.retry_after == COOL_DOWN - 0.5


def test_one_probe_goes_after_the_cool_down(circuit: Circuit, clock: Clock) -> None:
    opened(circuit)
    clock.now += COOL_DOWN
    assert circuit.wait_seconds() == circuit.wait_seconds() == 0  # a question reserves no probe
    assert circuit.enter().is_probe
    with pytest.raises(ProviderError):
        circuit.enter()


def test_a_probe_that_succeeds_closes_it_for_all(circuit: Circuit, clock: Clock) -> None:
    probing(opened(circuit), clock).end(None)
    assert circuit.wait_seconds() == 0
    assert not circuit.enter().is_probe
    fail(circuit, THRESHOLD - 1)
    assert circuit.wait_seconds() == 0


def test_a_probe_that_fails_begins_another_cool_down(circuit: Circuit, clock: Clock) -> None:
    probe = probing(opened(circuit), clock)
    clock.now += 1
    probe.end(DOWN)
    assert circuit.wait_seconds() == COOL_DOWN


@pytest.mark.parametrize("end", [asyncio.CancelledError(), GeneratorExit(), UNKNOWN, KeyError("ours")])
def test_a_probe_that_tells_nothing_gives_its_place_to_the_next(
    circuit: Circuit, clock: Clock, end: BaseException
) -> None:
    probing(opened(circuit), clock).end(end)
    assert circuit.wait_seconds() == 0
    assert circuit.enter().is_probe


@pytest.mark.parametrize("code", ["provider_auth_failed", "provider_payment_required"])
def test_a_probe_whose_key_is_refused_lets_all_others_in(circuit: Circuit, clock: Clock, code: str) -> None:
    """The provider answers. Otherwise callers with made-up keys could send each probe, and keep good keys out."""
    probing(opened(circuit), clock).end(ProviderError(code))
    assert [circuit.try_acquire() for _ in range(3)] == [0, 0, 0]
    assert not any(circuit.enter().is_probe for _ in range(3))
    circuit.enter().end(None)
    fail(circuit, THRESHOLD - 1)
    assert circuit.wait_seconds() == 0


def test_after_a_refused_key_one_failure_opens_it_again(circuit: Circuit, clock: Clock) -> None:
    """The part that checks keys may be up while the part that answers is down."""
    probing(opened(circuit), clock).end(REFUSED)
    sent = [circuit.enter() for _ in range(3)]
    sent[0].end(REFUSED)
    sent[1].end(DOWN)
    assert circuit.wait_seconds() == COOL_DOWN
    clock.now += 1
    sent[2].end(DOWN)
    assert circuit.wait_seconds() == COOL_DOWN - 1


def test_a_probe_that_hangs_is_followed_by_another_which_decides(circuit: Circuit, clock: Clock) -> None:
    hanging = probing(opened(circuit), clock)
    assert circuit.wait_seconds() == COOL_DOWN
    probing(circuit, clock)
    clock.now += 0.5
    hanging.end(DOWN)
    assert circuit.wait_seconds() == COOL_DOWN - 0.5


def test_a_hanging_probe_that_leaves_does_not_let_in_more_than_one(circuit: Circuit, clock: Clock) -> None:
    hanging = probing(opened(circuit), clock)
    probing(circuit, clock)
    hanging.end(asyncio.CancelledError())
    assert circuit.wait_seconds() == COOL_DOWN


def test_a_hanging_probe_that_fails_after_another_succeeded_does_not_count(circuit: Circuit, clock: Clock) -> None:
    hanging = probing(opened(circuit), clock)
    probing(circuit, clock).end(None)
    hanging.end(DOWN)
    fail(circuit, THRESHOLD - 1)
    assert circuit.wait_seconds() == 0


def test_a_slow_probe_that_succeeds_closes_it_whatever_those_after_it_do(circuit: Circuit, clock: Clock) -> None:
    slow = probing(opened(circuit), clock)
    probing(circuit, clock).end(DOWN)
    third = probing(circuit, clock)
    slow.end(None)
    third.end(asyncio.CancelledError())
    assert not circuit.enter().is_probe


def test_what_was_sent_before_it_opened_and_fails_later_changes_nothing(circuit: Circuit, clock: Clock) -> None:
    late = [circuit.enter() for _ in range(3 * THRESHOLD)]
    opened(circuit)
    clock.now += 1
    for ticket in late[:THRESHOLD]:
        ticket.end(DOWN)
    assert circuit.wait_seconds() == COOL_DOWN - 1
    probing(circuit, clock).end(None)
    for ticket in late[THRESHOLD:]:
        ticket.end(DOWN)
    fail(circuit, THRESHOLD - 1)
    assert circuit.wait_seconds() == 0


def test_what_was_sent_before_it_opened_and_succeeds_later_does_not_close_it(circuit: Circuit) -> None:
    early = circuit.enter()
    opened(circuit)
    early.end(None)
    assert circuit.wait_seconds() > 0


def test_a_ticket_counts_once(circuit: Circuit) -> None:
    ticket = circuit.enter()
    for _ in range(THRESHOLD):
        ticket.end(DOWN)
    assert circuit.wait_seconds() == 0


def test_it_says_in_the_log_when_it_opens_and_when_it_closes(
    circuit: Circuit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "chat.providers.circuit"):
        late = circuit.enter()
        opened(circuit)
        late.end(DOWN)
        for _ in range(3):
            probing(circuit, clock).end(DOWN)
            probing(circuit, clock).end(REFUSED)
            fail(circuit)
        probing(circuit, clock).end(REFUSED)
        circuit.enter().end(None)
        circuit.enter().end(None)
    assert [record.getMessage() for record in caplog.records] == [
        "the provider scripted is down: requests fail at once until it answers",
        "the provider scripted answers again",
    ]
    assert caplog.records[0].__dict__["code"] == "provider_unreachable"
