"""Turns that no process runs any more: which ones count as dead, and what becomes of their replies."""

import math
from datetime import timedelta

import pytest
from django.utils import timezone

from sessions_api.models import Message
from sessions_api.retention.dead_turns import interrupt_dead_turns, interrupt_turns
from sessions_api.store.messages import BegunTurn, TurnProgress
from sessions_api.store.process import is_gone, outages, this_process
from sessions_api.store.turns import finish_turns, save_progress
from tests.support.stored_turns import begin, outcome, question, rows

pytestmark = pytest.mark.django_db(transaction=True)


def age(begun: BegunTurn, runner: str, seconds: float) -> None:
    Message.objects.filter(session=begun.session_pk, position=begun.position).update(
        runner=runner, heartbeat_at=timezone.now() - timedelta(seconds=seconds)
    )


def test_a_turn_without_a_heartbeat_is_interrupted_and_keeps_its_text() -> None:
    begun = begin(question())
    save_progress([TurnProgress(begun.session_pk, 1, "Até aqui")])
    age(begun, "outra-maquina/1:1:1", 3600)
    assert interrupt_dead_turns() == 1
    reply = Message.objects.get(position=1)
    assert (reply.status, reply.content, reply.error_code) == ("interrupted", "Até aqui", "turn_interrupted")
    assert reply.may_have_been_billed
    assert interrupt_dead_turns() == 0


def test_a_living_turn_of_another_machine_is_left_alone() -> None:
    begun = begin(question())
    age(begun, "outra-maquina/1:1:1", 1)
    assert interrupt_dead_turns() == 0
    assert interrupt_turns([Message.objects.get(position=1).turn_id]) == [0]


def test_a_turn_of_a_process_that_is_gone_is_interrupted_at_once() -> None:
    begun = begin(question())
    namespace, pid, _start = this_process().split(":")
    age(begun, f"{namespace}:{pid}:1", 0)  # the same pid with another start time: it was reused
    assert interrupt_dead_turns() == 1


def test_a_process_knows_itself_alive() -> None:
    assert not is_gone(this_process())
    assert not is_gone("")
    assert not is_gone("outra-maquina/1:1:1")


def test_each_dead_turn_of_a_set_is_told() -> None:
    dead, living = begin(question("a")), begin(question("b"))
    age(dead, this_process(), 3600)
    turn_ids = [Message.objects.get(session=begun.session_pk, position=1).turn_id for begun in (living, dead)]
    assert interrupt_turns([*turn_ids, "nada"]) == [0, 1, 0]


def test_nobody_is_taken_for_dead_right_after_an_outage() -> None:
    """Nobody could write a heartbeat meanwhile, but a process that is known to be gone is dead anyway."""
    silent, gone = question("a"), question("b")
    begin(silent)
    begin(gone)
    Message.objects.filter(position=1).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    Message.objects.filter(turn_id=gone.turn_id, position=1).update(runner=this_process().replace(":", ":9", 1))
    outages.record_failure()
    assert interrupt_turns([silent.turn_id]) == [0]
    assert interrupt_dead_turns() == 1
    assert (rows("a")[1][3], rows("b")[1][3]) == ("pending", "interrupted")
    outages.last_at = -math.inf
    assert interrupt_turns([silent.turn_id]) == [1]


def test_a_process_that_was_taken_for_dead_still_stores_its_whole_reply() -> None:
    begun = begin(question())
    dead = {"status": "interrupted", "error_code": "turn_interrupted", "completed_at": timezone.now()}
    Message.objects.filter(position=1).update(content="Até aqui", **dead)
    assert finish_turns([outcome(begun, "Tudo")]) == ["completed"]
    assert rows()[1] == (1, "assistant", "Tudo", "completed")


def test_another_process_s_interrupted_turn_is_left_alone() -> None:
    begun = begin(question())
    Message.objects.filter(position=1).update(status="interrupted", runner="elsewhere:1:1")
    assert finish_turns([outcome(begun, "Tudo")]) == ["interrupted"]
