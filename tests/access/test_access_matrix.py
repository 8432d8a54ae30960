"""Every endpoint × every kind of caller × every mode: nobody gets another owner's data.

The endpoints are those of the addresses, the bodies and parameters those of the published document.
"""

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.support.endpoints import ENDPOINTS, Endpoint
from tests.support.keys import BAD_KEY, NOBODY, Client, Credential, Key, credentials_of
from tests.support.services import Services

MODES = ["open", "keys", "byok", "keys+byok"]
OWNERS = ["open", "byok", "client"]  # each has stored data
SAMPLES = {"limit": "1", "q": "SEGREDO", "after": "3"}  # values for parameters without choices


@dataclass
class House:
    """A service; and for each kind of owner a secret, two sessions full of it, and a turn of the first one."""

    service: Service
    secrets: dict[str, str]
    client: Client
    key: Key
    sessions: dict[str, tuple[str, str, str]]

    def record(self) -> list[Any]:
        """All their stored rows."""
        rows: list[Any] = []
        theirs = "FROM sessions_api_session WHERE system_prompt LIKE 'Guarda SEGREDO-%'"
        rows += self.service.sql(f"SELECT * {theirs} ORDER BY id")
        messages = f"SELECT * FROM sessions_api_message WHERE session_id IN (SELECT id {theirs})"
        rows += self.service.sql(f"{messages} ORDER BY session_id, position")
        assert len(rows) == 2 * 3 * len(OWNERS)  # two sessions, with a question and a reply each
        return rows


@pytest.fixture(scope="module")
def house(fronts: Services, _upstream: Upstream) -> Iterator[House]:
    _upstream.clear()
    with fronts.own() as service:
        client = Client(service)
        key, kept = client.key(), {name: f"SEGREDO-{secrets.token_hex(8)}" for name in OWNERS}
        owners = {"open": Caller(service, ""), "byok": Caller(service), "client": Caller(service, key.whole)}
        told = {name: [tell(caller, kept[name]) for _ in range(2)] for name, caller in owners.items()}
        sessions = {name: (told[name][0], told[name][1], turn_of(owners[name], told[name][0])) for name in told}
        yield House(service, kept, client, key, sessions)


def tell(owner: Caller, secret: str) -> str:
    """A session with the secret in every text."""
    session = new_id()
    owner.chat(f"Ouve: {secret}", session_id=session, system_prompt=f"Guarda {secret}")
    changed = {"title": f"Sobre {secret}", "metadata": {"nota": secret}}
    good(owner.call("PATCH", f"/sessions/{session}", json=changed))
    return session


def turn_of(owner: Caller, session: str) -> str:
    return str(owner.messages(session)[1]["turn_id"])


def start_in(house: House, mode: str) -> None:
    if house.service.settings.get("ACCESS_MODE", "open") != mode:
        house.service.settings["ACCESS_MODE"] = mode
        house.service.kill()
        house.service.start()


@pytest.fixture(scope="module", params=MODES)
def mode(house: House, request: pytest.FixtureRequest) -> str:
    start_in(house, request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def credentials(house: House, mode: str) -> dict[str, Credential]:
    """New ones for each mode: a stranger has no sessions."""
    return credentials_of(house.client, house.key)


# Callers and their credentials

CREDENTIALS = 32  # kinds of them, see keys.py


def refusal(mode: str, name: str, always: tuple[int, str] | None) -> tuple[int, str] | None:
    """The status and code of this mode's refusal; `None` if it accepts the caller, as a stranger."""
    if always is not None:
        return always
    if name == "provider's key":
        return BAD_KEY if mode == "keys" else None
    if name == "another client":
        return BAD_KEY if mode == "byok" else None
    return None if mode == "open" else NOBODY


STRANGERS = ("no key", "provider's key", "another client")


def others(name: str) -> list[str]:
    """The owners whose sessions such a caller must not see. In open mode all callers without a key are one owner."""
    if name in STRANGERS:
        return OWNERS[1:] if name == "no key" else OWNERS
    return ["client"]  # its key was sent in the wrong place


# Requests


def addresses(endpoint: Endpoint, every_variant: bool) -> list[tuple[str, str]]:
    if not every_variant:
        return [(endpoint.method, endpoint.path)]
    methods = [endpoint.method, "HEAD"] if endpoint.method == "GET" else [endpoint.method]
    variants = [(endpoint.method, f"{endpoint.path}/?{query}") for query in queries(endpoint)]
    return variants + [(method, endpoint.path) for method in methods]


def queries(endpoint: Endpoint) -> set[str]:
    """All that can be asked for at once, with the first and with the last of each parameter's choices."""
    asked = [part for part in endpoint.described["parameters"] if part.get("in") == "query"]
    values = {part["name"]: part["schema"].get("enum", [SAMPLES.get(part["name"], "")]) for part in asked}
    values |= {part["name"]: ["true"] for part in asked if part["schema"].get("type") == "boolean"}
    return {
        urlencode({name: choices[which] for name, choices in values.items() if choices[which]}) for which in (0, -1)
    } - {""}


def asked(
    client: httpx.Client, method: str, path: str, options: dict[str, Any], session: str, turn: str, endpoint: Endpoint
) -> httpx.Response:
    named = path.format(session_id=session, turn_id=turn, message_id=f"{turn}.1")
    url = httpx.URL(named).copy_merge_params(options.get("params", {}))
    body = endpoint.body(session, turn, in_session=endpoint.starts_turn)
    return client.request(method, url, headers=options.get("headers"), json=body)


def seen(response: httpx.Response, session: str, turn: str) -> tuple[Any, ...]:
    """All of an answer that could distinguish cases, without the requested ids."""
    body = response.text.replace(response.headers["x-request-id"], "REQUEST")
    headers = [pair for pair in response.headers.multi_items() if pair[0] not in ("x-request-id", "date")]
    return response.status_code, body.replace(session, "SESSION").replace(turn, "TURN"), headers


def test_every_address_names_something_that_the_house_has() -> None:
    assert {endpoint.about for endpoint in ENDPOINTS} <= {"", "session", "turn", "message"}


@pytest.mark.parametrize("number", range(CREDENTIALS))
def test_nobody_gets_what_is_not_theirs(
    house: House, upstream: Upstream, mode: str, credentials: dict[str, Credential], number: int
) -> None:
    assert len(credentials) == CREDENTIALS
    name, (options, always) = list(credentials.items())[number]
    refused = refusal(mode, name, always)
    before = house.record()
    with Caller(house.service, "").connection() as client:
        if refused:
            check_refused(house, client, options, refused)
        else:
            for owner in others(name):
                check_stranger(house, client, options, owner, every_variant=name in STRANGERS)
    assert house.record() == before
    assert (upstream.count == 0) == (refused is not None)
    for request in [*upstream.requests, *upstream.model_requests]:
        assert "SEGREDO" not in str(request.body)
        assert house.key.identifier not in str(request.headers).lower()


def check_refused(house: House, client: httpx.Client, options: dict[str, Any], refused: tuple[int, str]) -> None:
    """With the same words everywhere, whatever the address names."""
    session, second, turn = house.sessions["client"]
    bodies = set()
    for endpoint in ENDPOINTS:
        one = second if endpoint.starts_turn else session
        response = asked(client, endpoint.method, endpoint.path, options, one, turn, endpoint)
        if not getattr(endpoint.view, "keyless", False):
            problem(response, *refused)
            bodies.add(response.text.replace(response.headers["x-request-id"], ""))
        assert "SEGREDO" not in response.text + str(response.headers)
    assert len(bodies) == 1


def check_stranger(
    house: House, client: httpx.Client, options: dict[str, Any], owner: str, *, every_variant: bool
) -> None:
    """Another owner's session looks like a missing one, and the caller's own answers contain nothing of it."""
    session, second, turn = house.sessions[owner]
    for endpoint in ENDPOINTS:
        for method, path in addresses(endpoint, every_variant):
            one = second if endpoint.starts_turn else session
            response = asked(client, method, path, options, one, turn, endpoint)
            assert house.secrets[owner] not in response.text + str(response.headers), (method, path)
            assert response.status_code == (404 if endpoint.about else 200), (method, path, response.text)
            if endpoint.about:
                missing, no_turn = new_id(), secrets.token_urlsafe(16)
                assert [len(missing), len(no_turn)] == [len(session), len(turn)]
                other = asked(client, method, path, options, missing, no_turn, endpoint)
                assert seen(response, session, turn) == seen(other, missing, no_turn), (method, path)
            elif not endpoint.starts_turn:
                assert session not in response.text


@pytest.mark.parametrize("scheme", ["bearer {}", "BEARER {}", "Bearer   {}"])
def test_the_scheme_s_case_and_spaces_make_no_other_caller(house: House, scheme: str) -> None:
    start_in(house, "keys+byok")
    session = house.sessions["client"][0]
    options: Any = {"headers": {b"Authorization": scheme.format(house.key.whole).encode()}}
    with Caller(house.service, "").connection() as client:
        assert house.secrets["client"] in client.get(f"/sessions/{session}", **options).text


def test_a_running_turn_is_nobody_else_s(house: House, upstream: Upstream) -> None:
    start_in(house, "keys+byok")
    gate, owner, session = threading.Event(), Caller(house.service, house.key.whole), new_id()
    upstream.script(scenarios.gated(gate, scenarios.rest("o fim"), after="SEGREDO "))
    about = [endpoint for endpoint in ENDPOINTS if endpoint.about]
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(owner.chat, "Oi", session_id=session)
        wait_until(lambda: "SEGREDO" in owner.get(f"/sessions/{session}/messages").text)
        turn = turn_of(owner, session)
        for stranger in (Client(house.service).caller(), Caller(house.service)):
            with stranger.connection() as client:
                for endpoint in about:
                    for method, path in addresses(endpoint, every_variant=True):
                        missing, no_turn = new_id(), secrets.token_urlsafe(16)
                        theirs = asked(client, method, path, {}, session, turn, endpoint)
                        nobodys = asked(client, method, path, {}, missing, no_turn, endpoint)
                        assert seen(theirs, session, turn) == seen(nobodys, missing, no_turn)
                        assert theirs.status_code == 404
        gate.set()
        assert asking.result()["response"] == "SEGREDO o fim"
