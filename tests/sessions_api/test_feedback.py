"""POST /messages/{id}/feedback: opinions on replies."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testing.client import Caller, good, new_id, problem
from testing.service import Service


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture
def reply(caller: Caller) -> dict[str, Any]:
    session = new_id()
    caller.chat("Oi", session_id=session)
    return caller.messages(session)[1] | {"session": session}


def test_an_opinion_is_shown_with_the_reply(caller: Caller, reply: dict[str, Any]) -> None:
    said = good(caller.post(f"/messages/{reply['id']}/feedback", rating="down", comment="Não era isso."))
    assert said["id"] == reply["id"]
    assert (said["feedback"]["rating"], said["feedback"]["comment"]) == ("down", "Não era isso.")
    assert [message["feedback"] for message in caller.messages(reply["session"])] == [None, said["feedback"]]
    assert caller.session(reply["session"])["messages"][1]["feedback"] == said["feedback"]


def test_the_newest_opinion_counts(caller: Caller, reply: dict[str, Any]) -> None:
    good(caller.post(f"/messages/{reply['id']}/feedback", rating="down", comment="Ruim"))
    good(caller.post(f"/messages/{reply['id']}/feedback", rating="up"))
    shown = caller.messages(reply["session"])[1]["feedback"]
    assert (shown["rating"], shown["comment"]) == ("up", "")


def test_it_can_be_taken_back(caller: Caller, reply: dict[str, Any]) -> None:
    good(caller.post(f"/messages/{reply['id']}/feedback", rating="up"))
    for _ in range(2):
        assert good(caller.post(f"/messages/{reply['id']}/feedback", rating=None))["feedback"] is None
    assert caller.messages(reply["session"])[1]["feedback"] is None


def test_a_question_has_none(caller: Caller, reply: dict[str, Any]) -> None:
    question = caller.messages(reply["session"])[0]["id"]
    problem(caller.post(f"/messages/{question}/feedback", rating="up"), 404, "message_not_found")


@pytest.mark.parametrize("named", ["x", "x.1", "{turn}", "{turn}.2", "{turn}.01234567890", "%20.1", "'.1"])
def test_there_is_no_such_message(caller: Caller, reply: dict[str, Any], named: str) -> None:
    path = f"/messages/{named.format(turn=reply['turn_id'])}/feedback"
    problem(caller.post(path, rating="up"), 404, "message_not_found")


@pytest.mark.parametrize(
    "body",
    [{}, {"rating": "good"}, {"rating": 1}, {"rating": ["up"]}, {"rating": "up", "comment": "x" * 4001},
     {"rating": "up", "comment": 5}],
)  # fmt: skip
def test_what_is_no_opinion_is_refused(caller: Caller, reply: dict[str, Any], body: dict[str, Any]) -> None:
    problem(caller.post(f"/messages/{reply['id']}/feedback", **body), 400, "invalid_request")


def test_it_goes_with_its_conversation(caller: Caller, service: Service, reply: dict[str, Any]) -> None:
    canary = f"canario{reply['turn_id']}"
    good(caller.post(f"/messages/{reply['id']}/feedback", rating="down", comment=canary))
    good(caller.call("DELETE", f"/sessions/{reply['session']}?erase=true"))
    assert not service.sql("SELECT 1 FROM sessions_api_feedback WHERE comment = %s", canary)


def test_many_at_once_leave_one(caller: Caller, reply: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        path = f"/messages/{reply['id']}/feedback"
        answers = list(pool.map(lambda number: caller.post(path, rating="up", comment=str(number)), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    shown = caller.messages(reply["session"])[1]["feedback"]["comment"]
    assert shown in [str(number) for number in range(16)]
