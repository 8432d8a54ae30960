"""Where a search's words are: the message of each session, the messages of one, and the page around a message."""

from typing import Any

import pytest
from django.utils import timezone

from testing.client import Caller, good, new_id, problem
from testing.service import Service
from tests.support.written import Line, write


@pytest.fixture
def caller(service: Service) -> Caller:
    return Caller(service)


def matches(caller: Caller, text: str) -> dict[str, int | None]:
    """The position of the message that each found session matches with."""
    page = good(caller.get("/sessions", q=text))["data"]
    return {session["session_id"]: _position(session["match"]) for session in page}


def _position(match: dict[str, Any] | None) -> int | None:
    return None if match is None else int(match["message_id"].rpartition(".")[2])


def positions(page: dict[str, Any]) -> list[int]:
    return [int(message["id"].rpartition(".")[2]) for message in page["data"]]


def test_a_search_says_which_message_it_means(service: Service, caller: Caller) -> None:
    write(caller, "novo", ["Qual é a tarifa do cartão?", "São 12,50.", "E a do Cartao azul?", "Nenhuma.", "Obrigada"])
    write(caller, "titulo", ["Oi", "Olá"], title="Tarifa do cartão")
    write(caller, "partes", ["tarifa", "cartão"], title="Conversa")
    assert matches(caller, "tarifa cartao") == {"novo": 0, "titulo": None}
    assert matches(caller, "CART") == {"novo": 2, "titulo": None, "partes": 1}
    assert matches(caller, "12.50") == {"novo": 1}
    assert "match" not in good(caller.get("/sessions"))["data"][0]
    assert "match" not in good(caller.get("/sessions", q=" "))["data"][0]
    assert "match" not in good(caller.get("/sessions/novo"))
    assert good(caller.get("/sessions", q="..."))["data"] == []
    found = good(caller.get("/sessions", q="obrigada"))["data"][0]["match"]
    assert found == {"message_id": good(caller.get("/sessions/novo"))["messages"][-1]["id"], "role": "user"}


def test_the_messages_of_one_session_are_searched_page_by_page(service: Service, caller: Caller) -> None:
    session = new_id()
    write(caller, session, [f"cartão {n}" if n % 3 == 0 else f"outra coisa {n}" for n in range(30)], title="cartão")
    write(caller, new_id(), ["cartão"] * 3)
    page = good(caller.get(f"/sessions/{session}/messages", q="Cartoes cart", limit=4))
    assert page == {"data": [], "next": None}
    seen, path = [], f"/sessions/{session}/messages?q=carta&limit=4&order=desc"
    while path:
        page = good(caller.get(path))
        seen.append(positions(page))
        path = page["next"]
    assert seen == [[27, 24, 21, 18], [15, 12, 9, 6], [3, 0]]
    only = f"/sessions/{session}/messages"
    assert positions(good(caller.get(only, q="cartão", after="x.3", limit=1))) == [6]
    assert positions(good(caller.get(only, q="cartão", before="x.3", order="desc", limit=1))) == [0]
    assert positions(good(caller.get(only, q="cartão", around="x.14", limit=2))) == [12, 15]
    assert good(caller.get(only, q="!?"))["data"] == []
    assert len(good(caller.get(only, q=" "))["data"]) == 30


def test_what_was_superseded_or_is_not_ones_own_is_no_hit(service: Service, caller: Caller) -> None:
    session = new_id()
    then = timezone.now().isoformat()
    write(caller, session, ["segredo um", Line("segredo dois", superseded_at=then), "três"])
    assert matches(caller, "segredo") == {session: 0}
    assert positions(good(caller.get(f"/sessions/{session}/messages", q="segredo", include="superseded"))) == [0]
    problem(Caller(service).get(f"/sessions/{session}/messages", q="segredo"), 404, "session_not_found")


AROUND: list[tuple[dict[str, Any], list[int], list[int] | None, list[int] | None]] = [
    # the parameters; the page, the one before it (nearest first), the one after it
    ({"around": "x.10", "limit": 4}, [8, 9, 10, 11], [7, 6, 5, 4], [12, 13, 14, 15]),
    ({"around": "x.10", "limit": 3}, [9, 10, 11], [8, 7, 6], [12, 13, 14]),
    ({"around": "x.10", "limit": 1}, [10], [9], [11]),
    ({"around": "x.0", "limit": 4}, [0, 1], None, [2, 3, 4, 5]),
    ({"around": "x.19", "limit": 4}, [17, 18, 19], [16, 15, 14, 13], None),
    ({"around": "x.500", "limit": 4}, [18, 19], [17, 16, 15, 14], None),
    ({"around": "x.500", "limit": 1}, [], [19], None),
    ({"around": "x.10", "limit": 100}, list(range(20)), None, None),
    ({"around": "x.10", "limit": 4, "order": "desc"}, [11, 10, 9, 8], [12, 13, 14, 15], [7, 6, 5, 4]),
    ({"around": "x.10", "limit": 4, "after": "x.15", "before": "x.3"}, [8, 9, 10, 11], [7, 6, 5, 4], [12, 13, 14, 15]),
]  # fmt: skip


def test_a_page_around_a_message_goes_on_in_both_directions(service: Service, caller: Caller) -> None:
    session = new_id()
    write(caller, session, [f"mensagem {n}" for n in range(20)])
    for parameters, here, above, below in AROUND:
        page = good(caller.get(f"/sessions/{session}/messages", **parameters))
        assert positions(page) == here, parameters
        for name, expected in (("previous", above), ("next", below)):
            got = page[name] and positions(good(caller.get(page[name])))
            assert got == expected, (parameters, name)
    answer = problem(caller.get(f"/sessions/{session}/messages", around="x.y"), 400, "invalid_request")
    assert list(answer["errors"]) == ["around"]
    assert len(good(caller.get(f"/sessions/{session}/messages", around=""))["data"]) == 20
