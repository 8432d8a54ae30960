"""A short client of the service for tests: a caller with its own key, and an event stream in pieces."""

import json
import secrets
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from testing.service import Service

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load the certificates for every client
PATIENCE = 60.0  # seconds; longer than anything here takes, so a hang is detected


@dataclass(frozen=True)
class Event:
    """One server-sent event; `data` is parsed. A comment has the name ":"."""

    name: str
    data: Any = None
    id: str | None = None


class Caller:
    """A user of the service, with a provider key (a new one by default), or without (`key=""`)."""

    def __init__(self, service: Service, key: str | None = None, **headers: str) -> None:
        self.service = service
        self.key = f"sk-{secrets.token_hex(12)}" if key is None else key
        self.headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    @contextmanager
    def connection(self) -> Iterator[httpx.Client]:
        """For several requests over one connection, or one that is abandoned."""
        with httpx.Client(
            base_url=self.service.url, headers=self.headers, timeout=PATIENCE, trust_env=False, verify=NO_TLS
        ) as client:
            yield client

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self.connection() as client:
            return client.request(method, path, **options)

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.call("GET", path, params=parameters or None)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.call("POST", path, json=body)

    def post_raw(self, path: str, body: bytes | Iterable[bytes], **headers: str) -> httpx.Response:
        given = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        return self.call("POST", path, content=body, headers=given)

    def chat(self, message: str, **body: Any) -> dict[str, Any]:
        """The answer of POST /chat, which must succeed."""
        return good(self.post("/chat", message=message, **body))

    def stream(self, path: str, *, headers: Mapping[str, str] | None = None, **body: Any) -> list[Event]:
        """All events of a stream, asked for in the body."""
        response = self.call("POST", path, json={"stream": True, **body}, headers=headers)
        assert response.headers["content-type"].startswith("text/event-stream"), response.text
        return events(response.text)

    def session(self, session_id: str) -> dict[str, Any]:
        return good(self.get(f"/sessions/{session_id}"))

    def messages(self, session_id: str) -> list[dict[str, Any]]:
        """The newest hundred, oldest first."""
        return list(good(self.get(f"/sessions/{session_id}/messages"))["data"])

    def texts(self, session_id: str) -> list[str]:
        return [message["content"] for message in self.messages(session_id)]


def good(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, f"{response.status_code}: {response.text[:2000]}"
    return dict(response.json())


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error object of an answer, which must be this error in the form of the wire contract."""
    assert response.headers["content-type"] == "application/json", response.text[:2000]
    body: dict[str, Any] = response.json()
    assert (response.status_code, body.get("code")) == (status, code), body
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def events(text: str) -> list[Event]:
    assert text.endswith("\n\n"), "a frame was cut"
    return [_event(frame) for frame in text.removesuffix("\n\n").split("\n\n")]


def _event(frame: str) -> Event:
    if frame.startswith(":"):
        return Event(":")
    fields = dict(line.split(": ", 1) for line in frame.split("\n"))
    return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for another process to meet a condition; `AssertionError` if it does not."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("what the test waits for did not happen")


def new_id(prefix: str = "s") -> str:
    """A session id that no other test uses."""
    return f"{prefix}-{secrets.token_hex(8)}"
