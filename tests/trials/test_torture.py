"""The campaign's checker sees what it is there to see: each fault, put in by hand, is a problem."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.exchange import Request
from testing.service import Service
from testing.upstream import Upstream
from tests.conftest import MakeService
from trials.torture import report
from trials.torture.base import Finding, World
from trials.torture.ledger import Asked, Ledger, Row, check, check_database, check_rows, sent_again
from trials.torture.report import Result
from trials.torture.talk import answering, reply_to, talking

Case = tuple[Ledger, list[Row], list[Request]]


def a_reply(question: str) -> str:
    return f"Eco: {question}"


def request(*texts: str, status: int | None = 200) -> Request:
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
    return Request("POST", "/v1/chat/completions", {}, {"messages": messages}, status=status)


def row(position: int, content: str, status: str = "completed", error_code: str = "", billed: bool = False) -> Row:
    role = ("user", "assistant")[position % 2]
    return Row("s", 1, position, f"turn-{position // 2}", role, status, content, error_code, billed)


def two_turns() -> Case:
    """Two questions, one after the other, as they should have gone."""
    ledger = Ledger()
    one, two = (ledger.ask("s") for _ in range(2))
    for number, asked in enumerate((one, two)):
        asked.sent_at = 2 * number
        asked.answered(a_reply(asked.question), f"turn-{number}")
        asked.told_at = 2 * number + 1
    texts = [one.question, a_reply(one.question), two.question, a_reply(two.question)]
    return ledger, [row(place, text) for place, text in enumerate(texts)], [request(texts[0]), request(*texts[:3])]


def problems(case: Case) -> list[str]:
    return check_rows(*case, reply=a_reply)


def test_what_went_well_is_no_problem() -> None:
    assert problems(two_turns()) == []


def test_without_a_record_of_requests_the_rows_are_checked_all_the_same() -> None:
    ledger, rows, _ = two_turns()
    assert check_rows(ledger, rows, None) == []
    assert check_rows(ledger, rows[:2], None) == ["s [q2] was acknowledged and is lost"]


def lose_a_turn(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    del rows[2:]


def store_a_turn_twice(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    rows += [row(4, rows[2].content), row(5, rows[3].content)]


def change_a_reply(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    rows[3] = row(3, "Outra coisa")


def cut_a_reply(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    rows[3] = row(3, rows[3].content[:-3])
    ledger.asked[1].told = None


def leave_a_turn_pending(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    ledger.asked[1].told = None
    rows[3] = row(3, "", "pending")


def interrupt_an_acknowledged_turn(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    rows[3] = row(3, "Eco", "interrupted", "turn_interrupted", True)


def hide_that_it_may_have_been_billed(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    ledger.asked[1].told = None
    rows[3] = row(3, "Eco", "interrupted", "turn_interrupted", False)


def swap_the_turns(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    rows[:] = [row(place, rows[other].content) for place, other in enumerate((2, 3, 0, 1))]
    del requests[:]
    requests += [request(rows[0].content), request(*(message.content for message in rows[:3]))]
    for asked in ledger.asked:
        asked.turn_id = ""


def interleave_the_turns(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    rows[1], rows[2] = rows[2]._replace(position=1), rows[1]._replace(position=2)


def give_the_reply_another_turn(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    rows[3] = rows[3]._replace(turn_id="turn-9")


def send_it_again(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    requests.append(requests[-1])


def send_it_without_storing_it(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    requests.append(request(ledger.ask("s").question))


def answer_without_asking(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    del requests[1]


def send_another_history(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    requests[1] = request(rows[0].content, "Outra coisa", rows[2].content)


def forget_the_history(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    requests[1] = request(rows[2].content)


def carry_out_what_was_refused(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    ledger.asked[1].told = None
    ledger.asked[1].failed(409, "session_busy")


def show_another_text(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    ledger.asked[1].shows("Outra")


def record_another_error(ledger: Ledger, rows: list[Row], requests: list[Request]) -> None:
    ledger.asked[1].told = None
    ledger.asked[1].failed(502, "provider_error", "turn-1")
    rows[3] = row(3, "", "failed", "provider_timeout")


FAULTS: list[tuple[Callable[[Ledger, list[Row], list[Request]], None], str]] = [
    (lose_a_turn, "is lost"),
    (store_a_turn_twice, "stored 2 times"),
    (change_a_reply, "stored is 'Outra coisa'"),
    (cut_a_reply, "called complete"),
    (leave_a_turn_pending, "pending"),
    (interrupt_an_acknowledged_turn, "acknowledged and is interrupted"),
    (hide_that_it_may_have_been_billed, "without saying that it may have been billed"),
    (swap_the_turns, "stands after"),
    (interleave_the_turns, "not question and reply by turns"),
    (give_the_reply_another_turn, "interleaved"),
    (send_it_again, "went upstream 2 times"),
    (send_it_without_storing_it, "is not stored"),
    (answer_without_asking, "never went upstream"),
    (send_another_history, "Outra coisa"),
    (forget_the_history, "went []"),
    (carry_out_what_was_refused, "refused as session_busy, and carried out"),
    (show_another_text, "was shown 'Outra'"),
    (record_another_error, "was told provider_error, stored is 'provider_timeout'"),
]


@pytest.mark.parametrize("fault, words", FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_the_checker_sees(fault: Callable[[Ledger, list[Row], list[Request]], None], words: str) -> None:
    case = two_turns()
    fault(*case)
    assert words in "\n".join(problems(case))


def test_a_request_that_the_upstream_turned_away_may_go_again() -> None:
    ledger, rows, requests = two_turns()
    refused = request(*(message["content"] for message in requests[1].messages), status=503)
    assert problems((ledger, rows, [requests[0], refused, requests[1]])) == []
    assert sent_again([requests[0], refused, requests[1]]) == 0
    assert sent_again([*requests, requests[1]]) == 1


def test_two_replies_to_one_question_are_a_contradiction() -> None:
    asked = Asked("s", "[q1]", "Oi [q1]")
    asked.answered("Um")
    asked.answered("Um")
    assert asked.contradictions == []
    asked.answered("Dois")
    assert len(asked.contradictions) == 1


def test_two_streams_of_one_reply_show_the_same() -> None:
    asked = Asked("s", "[q1]", "Oi [q1]")
    for text in ("Bom", "Bom dia", "B", "Bom dia!"):
        asked.shows(text)
    assert (asked.contradictions, asked.text) == ([], "Bom dia!")
    asked.shows("Boa")
    assert len(asked.contradictions) == 1


def test_the_checker_compares_with_the_real_database(make_service: MakeService, upstream: Upstream) -> None:
    service, ledger = make_service(), Ledger()
    upstream.otherwise = answering(0)

    async def ask() -> None:
        async with talking(ledger, service.url) as talk:
            await talk.ask("s")
            await talk.ask("s", stream=True)

    asyncio.run(ask())
    assert len(ledger.acknowledged) == 2
    assert check(ledger, upstream, service, reply_to) == []
    service.sql("UPDATE sessions_api_message SET content = 'x' WHERE position = 3")
    assert len(check(ledger, upstream, service, reply_to)) == 3  # not as told, not as said, not its beginning


@pytest.mark.parametrize("damage", [b"\xff" * 8, b"\0" * 2048], ids=["the end of a page", "a page"])
def test_a_damaged_sqlite_file_is_a_problem(tmp_path: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    service = Service(tmp_path)
    service.sql("CREATE TABLE damaged (a TEXT UNIQUE)")
    service.sql("INSERT INTO damaged VALUES ('one'), ('two')")
    assert check_database(service) == []
    data = service.database_file.read_bytes()
    service.database_file.write_bytes(data[: -len(damage)] + damage)
    assert len(check_database(service)) == 1


def test_a_step_leaves_no_service_behind(tmp_path: Path, upstream: Upstream) -> None:
    world = World("sqlite", tmp_path / "world", random.Random(1), upstream)
    with pytest.raises(ZeroDivisionError), world.opened():
        service = world.service()
        raise ZeroDivisionError
    assert not service.running


def test_a_quick_run_counts_no_lower_than_a_few(tmp_path: Path, upstream: Upstream) -> None:
    world = World("sqlite", tmp_path, random.Random(1), upstream, scale=0.02)
    assert [world.count(full) for full in (1000, 50, 2)] == [20, 3, 2]


def test_the_report_names_what_broke_and_keeps_the_prose_around_it(tmp_path: Path) -> None:
    good, bad = Finding("1", "x", {"lost": 0}), Finding("2", "y", {"pending": 1234}, ["one is pending"])
    results = [Result("crashes", "sqlite", 60.0, [good, bad])]
    path = tmp_path / "reliability.md"
    path.write_text("# Reliability\n\nBefore.\n\n" + report.BEGIN + "\nold\n" + report.END + "\n\nAfter.\n")
    report.write(path, report.render(results, [("seed", "1")], "python -m trials.torture --seed 1"))
    text = path.read_text()
    assert text.startswith("# Reliability\n\nBefore.")
    assert text.endswith("\n\nAfter.\n")
    assert "old" not in text
    for words in (
        "any moment | kept |",
        "10 s | **broken** |",
        "pending: 1,234",
        "- sqlite, promise 2: one is pending",
    ):
        assert words in text
