"""Every endpoint × every kind of caller × every mode: nobody gets another owner's data.

The endpoints are those of the published document: a new one fails here until the matrix knows it.
"""

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import pytest

from testing import scenarios
from testing.client import Caller, good, new_id, problem, service_with, wait_until
from testing.service import Service
from testing.upstream import Upstream
from tests.support.keys import BAD_KEY, NOBODY, Client, Credential, Key, credentials_of

MODES = ["open", "keys", "byok", "keys+byok"]
OWNERS = ["open", "byok", "client"]  # each has stored data


class Endpoint(NamedTuple):
    """`about`: the thing that its address names. With `starts`, the body has a session's id."""

    about: str = ""
    starts: bool = False
    body: dict[str, Any] | None = None


MATRIX = {
    "POST /api/message": Endpoint(starts=True),
    "POST /chat": Endpoint(starts=True),
    "GET /turns/{turn_id}": Endpoint("turn"),
    "GET /turns/{turn_id}/events": Endpoint("turn"),
    "POST /turns/{turn_id}/cancel": Endpoint("turn", body={}),
    "GET /models": Endpoint(),
    "GET /sessions": Endpoint(),
    "GET /sessions/{session_id}": Endpoint("session"),
    "POST /sessions/{session_id}/fork": Endpoint("session", body={}),
    "POST /messages/{message_id}/feedback": Endpoint("message", body={"rating": "up"}),
    "PATCH /sessions/{session_id}": Endpoint("session", body={"title": "tomada"}),
    "DELETE /sessions/{session_id}": Endpoint("session"),
    "GET /sessions/{session_id}/messages": Endpoint("session"),
    "GET /sessions/{session_id}/export": Endpoint("session"),
    "GET /api/sessions": Endpoint(),
    "DELETE /api/sessions/{session_id}": Endpoint("session"),
    "GET /health": Endpoint(),
}
KEYLESS = {"GET /models", "GET /health"}
VARIANTS = {  # of addresses and bodies
    "GET /turns/{turn_id}/events": ["?after=3"],
    "DELETE /sessions/{session_id}": ["?erase=true"],
    "DELETE /api/sessions/{session_id}": ["?erase=true"],
    "GET /sessions/{session_id}/messages": ["?order=desc&limit=1", "/", "?include=superseded"],
    "GET /sessions/{session_id}/export": ["?format=xes", "?format=events&clock=simulated&include=superseded"],
    "GET /sessions": ["?limit=1", "?q=SEGREDO"],
}


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
def house(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    _upstream.clear()
    with service_with(tmp_path_factory, _upstream) as service:
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

CREDENTIALS = 27  # kinds of them, see keys.py


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


def addresses(name: str, every_variant: bool) -> list[tuple[str, str]]:
    method, path = name.split(" ")
    if not every_variant:
        return [(method, path)]
    methods = [method, "HEAD"] if method == "GET" else [method]
    return [(method, path + more) for more in VARIANTS.get(name, [])] + [(verb, path) for verb in methods]


def asked(
    client: httpx.Client, method: str, path: str, options: dict[str, Any], session: str, turn: str, endpoint: Endpoint
) -> httpx.Response:
    named = path.format(session_id=session, turn_id=turn, message_id=f"{turn}.1")
    url = httpx.URL(named).copy_merge_params(options.get("params", {}))
    body = {"message": "Oi", "session_id": session} if endpoint.starts else endpoint.body
    return client.request(method, url, headers=options.get("headers"), json=body)


def seen(response: httpx.Response, session: str, turn: str) -> tuple[Any, ...]:
    """All of an answer that could distinguish cases, without the requested ids."""
    body = response.text.replace(response.headers["x-request-id"], "REQUEST")
    headers = [pair for pair in response.headers.multi_items() if pair[0] not in ("x-request-id", "date")]
    return response.status_code, body.replace(session, "SESSION").replace(turn, "TURN"), headers


def test_the_matrix_is_the_published_document(house: House) -> None:
    paths = Caller(house.service, "").call("GET", "/schema", headers={"Accept": "application/json"}).json()["paths"]
    verbs = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}
    published = {f"{verb.upper()} {path}" for path, item in paths.items() for verb in verbs & item.keys()}
    assert published == MATRIX.keys()


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
    for name, endpoint in MATRIX.items():
        method, path = name.split(" ")
        response = asked(client, method, path, options, second if endpoint.starts else session, turn, endpoint)
        if name not in KEYLESS:
            problem(response, *refused)
            bodies.add(response.text.replace(response.headers["x-request-id"], ""))
        assert "SEGREDO" not in response.text + str(response.headers)
    assert len(bodies) == 1


def check_stranger(
    house: House, client: httpx.Client, options: dict[str, Any], owner: str, *, every_variant: bool
) -> None:
    """Another owner's session looks like a missing one, and the caller's own answers contain nothing of it."""
    session, second, turn = house.sessions[owner]
    for name, endpoint in MATRIX.items():
        for method, path in addresses(name, every_variant):
            response = asked(client, method, path, options, second if endpoint.starts else session, turn, endpoint)
            assert house.secrets[owner] not in response.text + str(response.headers), (method, path)
            assert response.status_code == (404 if endpoint.about else 200), (method, path, response.text)
            if endpoint.about:
                missing, no_turn = new_id(), secrets.token_urlsafe(16)
                assert [len(missing), len(no_turn)] == [len(session), len(turn)]
                other = asked(client, method, path, options, missing, no_turn, endpoint)
                assert seen(response, session, turn) == seen(other, missing, no_turn), (method, path)
            elif not endpoint.starts:
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
    about = [name for name, endpoint in MATRIX.items() if endpoint.about]
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(owner.chat, "Oi", session_id=session)
        wait_until(lambda: "SEGREDO" in owner.get(f"/sessions/{session}/messages").text)
        turn = turn_of(owner, session)
        for stranger in (Client(house.service).caller(), Caller(house.service)):
            with stranger.connection() as client:
                for name in about:
                    for method, path in addresses(name, every_variant=True):
                        missing, no_turn = new_id(), secrets.token_urlsafe(16)
                        theirs = asked(client, method, path, {}, session, turn, MATRIX[name])
                        nobodys = asked(client, method, path, {}, missing, no_turn, MATRIX[name])
                        assert seen(theirs, session, turn) == seen(nobodys, missing, no_turn)
                        assert theirs.status_code == 404
        gate.set()
        assert asking.result()["response"] == "SEGREDO o fim"
