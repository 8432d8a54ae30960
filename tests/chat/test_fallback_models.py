"""Which models may answer in another one's place: the request says so, or the settings do."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from bancobot_project.configuration.environment import Environment
from testing import scenarios
from testing.client import Caller, good, problem
from testing.service import Service
from testing.upstream import Upstream
from tests.support.services import Services


@pytest.fixture
def caller(front: Service) -> Caller:
    return Caller(front)


def models_of(upstream: Upstream) -> list[str]:
    """The models that were asked, in order."""
    return [request.body["model"] for request in upstream.requests]


# What a request may name


@pytest.mark.parametrize(
    "wrong",
    ["b", {"b": 1}, 7, True, [""], [None], [7], [["b"]], ["x" * 201], ["b"] * 6, [7] * 100, ["b", ""]],
    ids=lambda wrong: str(wrong)[:12],
)
def test_what_is_no_list_of_models_is_400(caller: Caller, upstream: Upstream, wrong: Any) -> None:
    error = problem(caller.post("/chat", message="Oi", fallback_models=wrong), 400, "invalid_request")
    assert list(error["errors"]) == ["fallback_models"]
    assert len(error["errors"]["fallback_models"]) <= 6
    assert upstream.count == 0


@pytest.mark.parametrize("nothing", [{}, {"fallback_models": None}, {"fallback_models": []}], ids=str)
def test_none_are_asked_where_none_are_named(caller: Caller, upstream: Upstream, nothing: dict[str, Any]) -> None:
    upstream.otherwise = scenarios.status(404, scenarios.UNKNOWN_MODEL)
    problem(caller.post("/chat", message="Oi", model="a", **nothing), 400, "unsupported_model")
    assert models_of(upstream) == ["a"]


# The setting

CONFIGURED = {"a": ["b"], "test/model": ["b"], "alone": [], "*": ["c", "b"]}


@pytest.fixture
def configured(fronts: Services, upstream: Upstream) -> Caller:
    upstream.otherwise = scenarios.by_model({"b": scenarios.ok("Do b"), "c": scenarios.ok("Do c")})
    return Caller(fronts.shared(MODEL_FALLBACKS=json.dumps(CONFIGURED)))


@pytest.mark.parametrize(
    "body, asked",
    [
        ({"model": "a"}, ["a", "b"]),
        ({}, ["test/model", "b"]),
        ({"model": "a", "fallback_models": None}, ["a", "b"]),
        ({"model": "a", "fallback_models": ["c"]}, ["a", "c"]),
        ({"model": "a", "fallback_models": []}, ["a"]),
        ({"model": "alone"}, ["alone"]),
        ({"model": "other"}, ["other", "c"]),
        ({"model": "c/typo", "fallback_models": ["b"]}, ["c/typo", "b"]),
        ({"model": "A"}, ["A", "c"]),
    ],
    ids=str,
)
def test_the_request_goes_before_the_setting(
    configured: Caller, upstream: Upstream, body: dict[str, Any], asked: Sequence[str]
) -> None:
    answer = configured.post("/chat", message="Oi", **body)
    assert answer.status_code == (200 if len(asked) > 1 else 400)
    assert models_of(upstream) == asked


def test_the_bank_s_assistant_has_the_setting_s_fallbacks(configured: Caller, upstream: Upstream) -> None:
    answer = good(configured.post("/api/message", message="Oi"))
    assert (answer["response"], answer["fallbacks"]) == ("Do b", [{"model": "test/model", "code": "unsupported_model"}])
    assert configured.messages(answer["session_id"])[1]["model"] == "b"


@pytest.mark.parametrize(
    "value",
    [
        "a=b",
        "[]",
        "null",
        '"a"',
        '{"a": "b"}',
        '{"a": null}',
        '{"a": {}}',
        '{"a": {"b": 1}}',
        '{"a": ["b", 7]}',
        '{"a": ["b", ""]}',
        '{"a": [" "]}',
        '{"": ["b"]}',
        '{"a": ["a"]}',
        '{"a": ["b", "b"]}',
        '{"*": ["*"]}',
        '{"a": ["b"], "a": ["c"]}',
        '{"a": ["b", "c", "d", "e", "f", "g"]}',
        json.dumps({"a": ["x" * 201]}),
        "[" * 100_000,
        '{"a": ["b"]',
    ],
    ids=lambda value: value[:40],
)
def test_a_setting_that_names_no_lists_of_other_models_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    monkeypatch.setenv("TRIED", value)
    with pytest.raises(ImproperlyConfigured, match="TRIED must be a JSON object"):
        Environment(tmp_path / "none").model_lists("TRIED", 5)


@pytest.mark.parametrize("value", ["{}", "", '{"a": []}', '{"a/b:free": ["c"], "*": ["d", "a/b:free"]}'])
def test_an_object_of_lists_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    monkeypatch.setenv("TRIED", value)
    assert Environment(tmp_path / "none").model_lists("TRIED", 5) == json.loads(value or "{}")
