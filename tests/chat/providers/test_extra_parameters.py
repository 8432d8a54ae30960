"""What the settings add to every request."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from bancobot_project.configuration.environment import Environment
from testing.client import Caller
from testing.upstream import Upstream
from tests.support.replies import ask, provider_for
from tests.support.services import Services

EXTRA: dict[str, Any] = {"reasoning_effort": "low", "provider": {"zdr": True}, "plugins": [{"id": "ação"}]}


@pytest.mark.parametrize("kind", ["openai", "openrouter"])
def test_every_request_has_it_beside_its_own(upstream: Upstream, kind: str) -> None:
    provider = provider_for(upstream, kind, extra_parameters=EXTRA)
    for _ in range(2):
        assert ask(provider, temperature=0.3, max_tokens=5, session_id="s").error is None
    for request in upstream.requests:
        assert {name: request.body[name] for name in EXTRA} == EXTRA
        assert (request.body["temperature"], request.body["max_tokens"], request.body["stream"]) == (0.3, 5, True)


def test_it_is_a_setting(services: Services, upstream: Upstream) -> None:
    caller = Caller(services.shared(EXTRA_PARAMETERS=json.dumps(EXTRA)))
    assert "parameters_left_out" not in caller.chat("Oi")
    assert {name: upstream.requests[0].body[name] for name in EXTRA} == EXTRA


BAD = [
    "low",
    "[]",
    "null",
    '{"a": NaN}',
    '{"a": 1e999}',
    '{"a": 1, "a": 2}',
    '{"model": "x"}',
    '{"stream": false}',
    "{",
]


@pytest.mark.parametrize("value", [*BAD, "[" * 100_000], ids=lambda value: value[:20])
def test_what_is_no_object_or_is_taken_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("TRIED", value)
    with pytest.raises(ImproperlyConfigured, match="TRIED must be a JSON object without model, stream") as caught:
        Environment(tmp_path / "none").parameters("TRIED", ("model", "stream"))
    assert "999" not in str(caught.value)  # it may hold secrets
