"""The API's endpoints, from the addresses and their view sets: tests that go through them try each new one."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.urls import URLPattern, URLResolver, get_resolver

from bancobot_project.docs import document
from sessions_api.api.schema import SESSION_ID, TURN_ID


class Endpoint(NamedTuple):
    method: str
    path: str  # with parameters as {name}
    view: Any
    action: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def scopes(self) -> set[str]:
        """One of these is enough. Empty: it needs none."""
        return set(getattr(self.view, "scopes", {}).get(self.action, ()))

    @property
    def about(self) -> str:
        """The thing that its path names: session, turn, message, or nothing."""
        return "".join(re.findall(r"{(\w+)_id}", self.path))

    @property
    def starts_turn(self) -> bool:
        """Whether it takes a session's id in the body."""
        return not self.about and bool(self.bodies)

    @property
    def described(self) -> dict[str, Any]:
        return dict(document()["paths"][self.path][self.method.lower()])

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The document's examples of a body."""
        content = self.described.get("requestBody", {"content": {"": {"examples": {}}}})["content"]
        return [example["value"] for media in content.values() for example in media["examples"].values()]

    def body(self, session: str, turn: str, *, in_session: bool = False) -> Any:
        """One of them about this session and this turn; with `in_session` one that names the session."""
        bodies = [body for body in self.bodies if not in_session or "session_id" in body]
        return json.loads(json.dumps([*bodies, None][0]).replace(SESSION_ID, session).replace(TURN_ID, turn))

    def address(self, session: str, turn: str) -> str:
        return self.path.format(session_id=session, turn_id=turn, message_id=f"{turn}.1")


def addresses(patterns: list[URLPattern | URLResolver] | None = None) -> Iterator[tuple[str, Any]]:
    """Every address outside of the admin, with its view."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(pattern, URLResolver):
            if pattern.namespace != "admin":
                yield from addresses(pattern.url_patterns)
            continue
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", str(pattern.pattern)).removeprefix("^").removesuffix("/?$")
        if path not in ("admin", ""):  # the redirect to the admin, and unknown addresses
            yield f"/{path}", pattern.callback


ENDPOINTS = [
    Endpoint(method.upper(), path, callback.cls, action)
    for path, callback in addresses()
    for method, action in getattr(callback, "actions", {}).items()
    if method != "head"
]
