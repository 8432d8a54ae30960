"""Secrets do not leak: a canary goes through every failure, and is then searched everywhere."""

import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.db import connection

from access.callers import byok_caller
from chat.engine.turn import TurnOptions
from chat.providers import Options, ProviderError
from testing import scenarios
from testing.client import Caller
from testing.exchange import Exchange
from testing.scenarios import Scenario
from testing.service import Service
from testing.upstream import Upstream
from tests.access.test_owners import everything_stored
from tests.conftest import MakeService
from tests.project.test_server import run
from tests.support.keys import Client, Key, made_up_key
from tests.support.replies import ask, provider_for
from web.logs import JSONFormatter, trace_of
from web.redaction import hide, mask

TEXT = "CANARIO-texto"
CALLERS_KEY = "sk-CANARIO-do-cliente-0123456789"
OTHER_KEY = "CANARIO.chave.de.outro.formato"  # nothing that a pattern knows
SECRETS = {
    "OPENROUTER_API_KEY": "sk-CANARIO-do-servidor-0123456789",
    "OPENAI_API_KEY": "CANARIO.chave.openai.0123456789",
    "SECRET_KEY": "CANARIO-secreta-&<>'\"\\%-" + "x" * 40,
    "OWNER_HASH_KEY": "CANARIO-dos-donos-" + "y" * 40,
}
HASTY = {"UPSTREAM_READ_SECONDS": "0.3", "TURN_DEADLINE_SECONDS": "2", "UPSTREAM_CONNECT_SECONDS": "1"}
WORDS = f"{CALLERS_KEY} {SECRETS['OPENROUTER_API_KEY']} {OTHER_KEY} {TEXT}"  # a provider may repeat all that it got


async def not_http(exchange: Exchange) -> None:
    await exchange.raw(f"{WORDS}\r\n\r\n".encode())
    exchange.close()


def failures() -> list[Scenario]:
    """Every failure of the scripted upstream, with as much of the request in it as fits."""
    said = {"error": {"code": 400, "message": WORDS, "metadata": {"raw": WORDS, "reasons": [WORDS]}}}
    codes = (302, 400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 524, 529)
    headers = {"Location": f"http://127.0.0.1:9/{TEXT}", "Retry-After": "30", "X-Said": WORDS}
    return [
        *(scenarios.status(code, said, headers) for code in codes),
        scenarios.status(502, f"<html>{WORDS}</html>".encode(), {"Content-Type": "text/html"}),
        scenarios.status(200, f"<html>{WORDS}</html>".encode(), {"Content-Type": "text/html"}),
        scenarios.error_in_200(502, WORDS),
        scenarios.error_mid_stream(502, TEXT, metadata={"raw": WORDS}),
        scenarios.error_mid_stream(WORDS, TEXT),
        scenarios.raw(f"data: {WORDS}\n\n".encode()),
        scenarios.raw(f'data: {{"choices": "{WORDS}"}}\n\n'.encode()),
        scenarios.raw(b"data: \xff\xfe\n\n"),
        scenarios.truncated(TEXT),
        scenarios.truncated(TEXT, clean=False),
        scenarios.null_content(),
        scenarios.plain_json(None),
        scenarios.hang(),
        scenarios.hang(after=TEXT),
        scenarios.reset(),
        scenarios.reset(after=TEXT),
        not_http,
    ]


class Watched:
    """A service with canaries as secrets, and all its answers."""

    def __init__(self, service: Service, upstream: Upstream) -> None:
        self.service = service
        self.upstream = upstream
        self.key = Key(Client(service))
        self.refused = [made_up_key(), self.key.with_another_secret, f"bb_{TEXT}", f"{self.key.whole}x"]
        self.answers: list[httpx.Response] = []

    def send(self, key: str, method: str = "POST", path: str = "/chat", **options: Any) -> httpx.Response:
        answer = Caller(self.service, key=key).call(method, path, **options)
        self.answers.append(answer)
        return answer

    def secrets(self) -> set[str]:
        """The texts that must be nowhere; of BancoBot's keys, the secret part."""
        ours = {key.split("_", 2)[2] for key in (self.key.whole, *self.refused) if key.count("_") > 1}
        password = urlsplit(self.service.database_url).password
        return {*SECRETS.values(), CALLERS_KEY, OTHER_KEY, *ours, *([password] if password else [])}


def found(canaries: set[str], text: str) -> set[str]:
    return {canary for canary in canaries if canary in text or json.dumps(canary)[1:-1] in text}


@pytest.fixture(params=[("json", "false"), ("console", "true")], ids=["json", "console-debug"])
def watched(request: pytest.FixtureRequest, make_service: MakeService, upstream: Upstream) -> Watched:
    log_format, debug = request.param
    service = make_service(
        LOG_LEVEL="DEBUG", LOG_FORMAT=log_format, DEBUG=debug, ACCESS_MODE="keys+byok", **SECRETS, **HASTY
    )
    return Watched(service, upstream)


def test_no_failure_lets_out_a_secret_or_what_people_wrote(watched: Watched, upstream: Upstream) -> None:
    drive_the_provider_s_failures(watched)
    drive_bad_requests(watched)
    drive_without_database(watched)
    watched.service.terminate()
    log = watched.service.log()
    assert found(watched.secrets() | {TEXT}, log) == set()
    for answer in watched.answers:
        said = answer.text + str(answer.headers.multi_items())
        assert found(watched.secrets(), said) == set(), answer.request.url
        if answer.status_code >= 400 and "/admin" not in str(answer.request.url):
            assert TEXT not in said
    assert found(watched.secrets(), everything_stored(watched.service)) == set()
    assert TEXT in everything_stored(watched.service)  # it looks where things are
    debug_pages = [answer for answer in watched.answers if "Traceback" in answer.text]
    assert bool(debug_pages) == (watched.service.settings["DEBUG"] == "true")
    assert_nothing_of_ours_went_upstream(watched)


def drive_the_provider_s_failures(watched: Watched) -> None:
    """Each failure with a BancoBot key and with the caller's own, as JSON and as a stream."""
    for number, failure in enumerate([*failures(), scenarios.trickle()]):  # the turn's deadline ends it
        key = (watched.key.whole, CALLERS_KEY, OTHER_KEY)[number % 3]
        for stream in (False, True):
            watched.upstream.otherwise = failure
            answer = watched.send(key, json={"message": TEXT, "system_prompt": TEXT, "stream": stream})
            assert answer.status_code >= 400 or "event: error" in answer.text
            watched.upstream.otherwise = scenarios.echo()  # a success in between keeps the circuit closed
            watched.send(key, json={"message": TEXT, "session_id": TEXT[:7]}).raise_for_status()


def drive_bad_requests(watched: Watched) -> None:
    good_key = watched.key.whole
    for key in (*watched.refused, f"{CALLERS_KEY} x", f"{CALLERS_KEY}\xff", "x" * 600):
        for method, path in (("POST", "/chat"), ("GET", "/sessions"), ("GET", "/models")):
            watched.send("", method, path, headers={b"Authorization": f"Bearer {key}".encode("latin-1")})
    for scheme in ("Basic", "Token", "", "bearer:"):
        watched.send("", json={"message": TEXT}, headers={"Authorization": f"{scheme} {good_key}".strip()})
    for sent in (OTHER_KEY, good_key, f"{CALLERS_KEY} x", f"{good_key},{CALLERS_KEY}", f"x{good_key}"):
        for method, path in (("POST", "/chat"), ("GET", "/sessions"), ("PUT", "/models")):
            watched.send("", method, path, headers={"X-API-Key": sent, "Authorization": f"Basic {CALLERS_KEY}"})
    bodies: list[Any] = [
        {}, {"message": f"{TEXT}\0"}, {"message": TEXT * 10_000}, {"message": [TEXT]}, [TEXT], TEXT,
        {"message": TEXT, "model": {TEXT: TEXT}}, {"message": TEXT, "temperature": TEXT},
        {"message": TEXT, "max_tokens": 0},
    ]  # fmt: skip
    for body in bodies:
        watched.send(good_key, json=body)
        watched.send(good_key, path="/api/message", json=body)
    kinds = ("text/plain", "application/json", "application/json; charset=zlib")
    for kind in kinds:
        watched.send(good_key, content=f'{{"message": "{TEXT}'.encode(), headers={"Content-Type": kind})
    watched.send(good_key, content=b'{"message": "' + TEXT.encode() * 100_000 + b'"}')  # 413
    paths = ["/sessions/s", f"/sessions/{CALLERS_KEY}", f"/{good_key}", f"/turns/{CALLERS_KEY}", "/chat", "/health"]
    for path in paths:
        watched.send(good_key, "PUT", path)
        watched.send(good_key, "GET", path, params={"q": CALLERS_KEY, "cursor": TEXT})
    for header in ("Cookie", "Last-Event-ID", "X-Api-Key"):
        watched.send(good_key, json={"message": "Oi"}, headers={header: CALLERS_KEY})
    limited = Client(watched.service, requests_per_minute=1).key().whole
    assert [watched.send(limited, json={"message": TEXT}).status_code for _ in range(2)] == [200, 429]


def drive_without_database(watched: Watched) -> None:
    service = watched.service
    for table in ("sessions_api_message", "access_key", "django_session"):
        service.sql(f"ALTER TABLE {table} RENAME TO guardada")
        watched.send(watched.key.whole, json={"message": TEXT})
        watched.send(CALLERS_KEY, json={"message": TEXT, "stream": True})
        watched.send(CALLERS_KEY, "GET", "/sessions", params={"q": TEXT})
        session = {"Cookie": f"bancobot_sessionid={CALLERS_KEY.lower()}"}
        watched.send("", "GET", "/admin/", params={"next": TEXT}, headers=session)
        service.sql(f"ALTER TABLE guardada RENAME TO {table}")
    if connection.vendor == "postgresql":
        mine = "datname = current_database() AND pid <> pg_backend_pid()"
        service.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        watched.send(CALLERS_KEY, json={"message": TEXT})
        watched.send(watched.key.whole, "GET", "/sessions", params={"q": TEXT})


def assert_nothing_of_ours_went_upstream(watched: Watched) -> None:
    received = [*watched.upstream.requests, *watched.upstream.model_requests]
    assert {request.headers["authorization"] for request in received} == {
        f"Bearer {key}" for key in (SECRETS["OPENROUTER_API_KEY"], CALLERS_KEY, OTHER_KEY)
    }
    never = watched.secrets() - {SECRETS["OPENROUTER_API_KEY"], CALLERS_KEY, OTHER_KEY}
    for request in received:
        everything = f"{request.path} {request.headers} {json.dumps(request.body)}"
        assert found(never, everything) == set()
        assert watched.key.identifier not in everything
        assert "bb_" not in everything


# What a log may show of an object


def test_no_repr_and_no_traceback_shows_a_key(upstream: Upstream) -> None:
    options = Options(model="m", api_key=CALLERS_KEY)
    shown = [repr(byok_caller(CALLERS_KEY)), repr(options), repr(TurnOptions(api_key=CALLERS_KEY))]
    for failure in failures():
        upstream.otherwise = failure
        provider = provider_for(upstream, retries=0, read_timeout=0.2)
        problem = ask(provider, api_key=CALLERS_KEY).failure
        assert isinstance(problem, ProviderError)
        shown += [repr(problem), str(problem), repr(provider), trace_of(problem)]
        shown += [repr(getattr(link, "_request", "")) for link in (problem.__cause__, problem.__context__)]
    assert found({CALLERS_KEY, OTHER_KEY, TEXT}, "".join(shown)) == set()
    assert "provider_timeout" in "".join(shown)
    assert any(request.headers["authorization"] == f"Bearer {CALLERS_KEY}" for request in upstream.requests)


# The filter

OUR_KEY = "bb_abcdefghij12_" + "Zz9" * 14 + "x"
SHOWN = {
    OUR_KEY: "bb_abcdefghij12_***",
    f"Authorization: Bearer {OUR_KEY}": "Authorization: ***",
    "a chave bb_abcdefghij12 e bb_abcdefghij12_…": "a chave bb_abcdefghij12 e bb_abcdefghij12_…",
    "bb_quase-uma-chave": "bb_***",
    "Bearer qualquer.coisa/aqui": "Bearer ***",
    "(b'authorization', b'Basic dXN1OnNlbmhh')": "(b'authorization', b'***')",
    "[(b'x-api-key', b'chave propria 1')]": "[(b'x-api-key', b'***')]",
    "X-API-Key: qualquer.coisa": "X-API-Key: ***",
    '{"x-api-key": "qualquer", "HTTP_X_API_KEY": "coisa"}': '{"x-api-key": "***", "HTTP_X_API_KEY": "***"}',
    "sk-or-v1-0123456789": "sk-***",
    r"linha\nsk-or-v1-0123456789": r"linha\nsk-***",
    "?q=%20sk-or-v1-0123456789": "?q=%20sk-***",
    "postgresql://u:s/e@nha@h:5432/db": "postgresql://u:***@h:5432/db",
    "password=abc host=h": "password=*** host=h",
    '{"api_key": "abc def", "ok": 1}': '{"api_key": "***", "ok": 1}',
    "Cookie: bancobot_sessionid=abc; outro=x": "Cookie: ***; outro=x",
}
HARMLESS = [
    '{"message": "request", "path": "/api/message", "tokens": 15, "session": "helpdesk-12345678", "ms": 3}',
    "http://127.0.0.1:8000/sessions?q=a", "task-force-12345678", '{"password": null, "token": 1, "cookie": 2}',
]  # fmt: skip


@pytest.mark.parametrize("text", SHOWN)
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    assert mask(text) == SHOWN[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_does_not_is_left_alone(text: str) -> None:
    assert mask(text) == text


def test_a_line_of_json_stays_json_and_holds_no_secret() -> None:
    hide(SECRETS["SECRET_KEY"])
    ends = ["password", 'x"password="y', "a\\", "://u:p@", "secret: \\", 'bearer "']
    values = [*SHOWN, *HARMLESS, SECRETS["SECRET_KEY"], *ends]
    for first in values:
        for second in values:
            extra = {"dados": {second: {"password": second, "n": 1}}, "lista": [first]}
            line = JSONFormatter().format(logging.makeLogRecord({"msg": first, **extra}))
            assert json.loads(line)["message"] == mask(first)
            assert found({SECRETS["SECRET_KEY"], OUR_KEY[16:], "s/e@nha", "0123456789"}, line) == set()


# Standard error, whoever writes to it

LOUD = f"""
import asyncio, logging, sys, threading, warnings
from django.conf import settings

class Chatty(Exception):
    pass

def fail():
    raise Chatty(settings.SECRET_KEY + " {TEXT}")

async def forgotten():
    lost = Chatty("{TEXT}")
    asyncio.get_running_loop().call_exception_handler({{"message": "lost", "exception": lost, "future": lost}})

for name in ("alheio", "gunicorn.error", "asyncio", "django.request", "bancobot"):
    logging.getLogger(name).critical("%s e %r", settings.SECRET_KEY, [settings.OPENROUTER_API_KEY])
    logging.getLogger(name).critical("extra", extra={{"dados": {{"chave": settings.OWNER_HASH_KEY}}}})
    try:
        fail()
    except Chatty as problem:
        logging.getLogger(name).critical("deu %s", problem, exc_info=True)
        logging.getLogger(name).critical(problem)
asyncio.run(forgotten())
warnings.warn(settings.SECRET_KEY)
print(settings.OWNER_HASH_KEY, file=sys.stderr)
def end():
    raise Chatty(settings.OPENAI_API_KEY)
thread = threading.Thread(target=end)
thread.start()
thread.join()
raise Chatty(settings.SECRET_KEY)
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_whoever_writes_to_standard_error_gives_no_secret_away(tmp_path: Any, log_format: str) -> None:
    result = run("shell", "-v", "0", "-c", LOUD, data_dir=tmp_path, LOG_FORMAT=log_format, **SECRETS)
    assert result.returncode == 1
    assert found({*SECRETS.values(), TEXT}, result.stderr) == set()
    assert result.stderr.count("***") >= 5 * 3 + 4
    assert result.stderr.count("Chatty") >= 5 * 3
    assert "Traceback (most recent call last)" in result.stderr


BAD_STARTS = {
    "DATABASE_URL": [
        "postgres://u:12/CANARIO-x@h/db", "mysql://u:CANARIO@h/db", "postgres://u:CANARIO-longo@127.0.0.1:1/db",
    ],
    "OPENROUTER_BASE_URL": ["http://u:CANARIO@h/v1"],
    "OPENAI_BASE_URL": ["u:CANARIO@h"],
}  # fmt: skip


@pytest.mark.parametrize("name, value", [(name, value) for name, values in BAD_STARTS.items() for value in values])
def test_a_start_that_fails_does_not_quote_a_password(tmp_path: Any, name: str, value: str) -> None:
    result = run("serve", "--port", "0", data_dir=tmp_path, **{name: value})
    assert result.returncode != 0
    assert "CANARIO" not in result.stdout + result.stderr
    assert result.stderr


@pytest.mark.parametrize("begin, again, end", [
    ("/", "a", "passw"), ("/", "a", "api_ke/secret"), ("/", "-", "secret"), ("/", "_", "secret"), ("/@", "://a", ""),
    ("/", "bb_", ""), ("/", "sk-a", ""), ("/", "bearer%20", ""), ("/@://", "a", ""), ("/", "cookie=", ""),
    ("/cookie", "\\", ""), ("/cookie", " ", ""),
])  # fmt: skip
def test_a_long_line_takes_as_much_longer_as_it_is_long(begin: str, again: str, end: str) -> None:
    """If the filter scanned from each letter, a line ten times as long would take a hundred times the time."""

    def cpu_seconds(length: int) -> float:
        line = begin + again * (length // len(again)) + end
        taken = []
        for _ in range(5):
            before = time.process_time()
            mask(line)
            taken.append(time.process_time() - before)
        return min(taken)

    assert cpu_seconds(20_000) < 40 * cpu_seconds(2_000) + 0.01
