"""Contexts and longest replies as servers list them, and the names by which callers find a model."""

import asyncio
import threading
from typing import Any

import pytest

from chat.engine.asking import catalogue
from chat.engine.asking.catalogue import Catalogue, ModelLimits, Names
from testing import scenarios
from testing.client import Caller, good, problem
from testing.exchange import Exchange
from testing.upstream import Upstream
from tests.conftest import MakeService
from tests.support.replies import provider_for

ASSUMED = 32_768


def limits(upstream: Upstream, listed: Any, model: str = "m", kind: str = "openai") -> ModelLimits:
    upstream.models = scenarios.models(listed)

    async def run() -> ModelLimits:
        provider = provider_for(upstream, kind)
        try:
            return await Catalogue(provider, 60).limits(model, ASSUMED)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def context(upstream: Upstream, model: str, *listed: dict[str, Any]) -> int:
    return limits(upstream, {"data": list(listed)}, model).context


SERVERS: dict[str, tuple[dict[str, Any], int, int]] = {
    "OpenRouter": (
        {"context_length": 131072, "top_provider": {"context_length": 65536, "max_completion_tokens": 4096}},
        131072,
        4096,
    ),
    "OpenRouter's top provider": ({"context_length": None, "top_provider": {"context_length": 8192}}, 8192, 8192),
    "vLLM": ({"root": "/models/m", "parent": None, "max_model_len": 4096}, 4096, 4096),
    "llama.cpp": ({"meta": {"n_vocab": 49152, "n_ctx": 2048, "n_ctx_train": 8192, "size": 1}}, 2048, 2048),
    "llama.cpp as a router": ({"meta": {"n_ctx": 0, "n_ctx_train": 8192}}, ASSUMED, ASSUMED),
    "llama.cpp while it loads": ({"meta": None}, ASSUMED, ASSUMED),
    "LM Studio": ({"max_context_length": 131072, "loaded_context_length": 8192}, 8192, 8192),
    "LM Studio, not loaded": ({"max_context_length": 131072, "state": "not-loaded"}, 131072, 131072),
    "LM Studio's newer list": (
        {"max_context_length": 131072, "loaded_instances": [{"config": {"context_length": 4096}}]},
        4096,
        4096,
    ),
    "Groq": ({"context_window": 131072, "max_completion_tokens": 32768}, 131072, 32768),
    "Mistral": ({"max_context_length": 32768, "aliases": ["small"]}, 32768, 32768),
    "Novita": ({"context_size": 16384, "max_output_tokens": 2000}, 16384, 2000),
    "Anthropic": ({"max_input_tokens": 200000, "max_tokens": 64000}, 200000, 64000),
    "LiteLLM": ({"model_info": {"max_input_tokens": 128000, "max_output_tokens": 16384}}, 128000, 16384),
    "GitHub Models": ({"limits": {"max_input_tokens": 131072, "max_output_tokens": 4096}}, 131072, 4096),
    "GitHub Copilot": (
        {
            "capabilities": {
                "limits": {
                    "max_context_window_tokens": 400000,
                    "max_prompt_tokens": 272000,
                    "max_output_tokens": 128000,
                }
            }
        },
        272000,
        128000,
    ),
    "Vercel": ({"context_window": 200000, "max_tokens": 8192}, 200000, 8192),
    "Gemini": ({"inputTokenLimit": 1048576, "outputTokenLimit": 65536}, 1048576, 65536),
    "DeepInfra": ({"metadata": {"context_length": 40960, "max_tokens": 40960}}, 40960, 40960),
    "Venice": ({"model_spec": {"availableContextTokens": 65536, "maxCompletionTokens": 8192}}, 65536, 8192),
    "Poe": ({"context_window": {"context_length": 128000, "max_output_tokens": 4096}}, 128000, 4096),
    "Hugging Face": (
        {"providers": [{"context_length": 131072}, {"status": "live"}, {"context_length": 16384}]},
        16384,
        16384,
    ),
    "Lemonade": ({"max_context_window": 40960}, 40960, 40960),
    "OpenAI": ({"object": "model", "owned_by": "openai"}, ASSUMED, ASSUMED),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_list_s_limits_are_found(upstream: Upstream, name: str) -> None:
    entry, context, reply = SERVERS[name]
    found = limits(upstream, {"data": [{"id": "other"}, {"id": "m", **entry}]})
    assert found == ModelLimits(context, reply, is_listed=context != ASSUMED or name == "Mistral")


VALUES = [
    (8192, 8192), (8192.0, 8192), ("8192", 8192), (" 8192 ", 8192), ("8192.0", 8192), ("8,192", 8192),
    ("131_072", 131072), ("128k", 128_000), ("128K", 128_000), ("1M", 1_000_000), ("1.5m", 1_500_000),
    ("8192 tokens", 8192),
    *((value, 0) for value in (
        0, -1, 0.5, True, False, None, "", "many", "k", "-8192", "0", "8192.5", "1e5", "٣٢", 10**30, 1e300, "9" * 30,
        [], {}, [8192.5], {"max": 8192},
    )),
]  # fmt: skip


@pytest.mark.parametrize(("value", "tokens"), VALUES, ids=[repr(value)[:12] for value, _ in VALUES])
def test_a_number_comes_in_many_forms_and_one_without_sense_is_none(
    upstream: Upstream, value: Any, tokens: int
) -> None:
    entry = {"id": "m", "max_model_len": value, "max_output_tokens": value}
    expected = ModelLimits(tokens, tokens, is_listed=True) if tokens else ModelLimits(ASSUMED, ASSUMED, is_listed=False)
    assert limits(upstream, {"data": [entry]}) == expected
    fallback = limits(upstream, {"data": [{**entry, "context_length": 4096}]})
    assert fallback.context == (tokens or 4096)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_what_is_no_json_number_is_none(upstream: Upstream, number: bytes) -> None:
    body = b'{"data": [{"id": "m", "context_length": %s}]}' % number
    upstream.models = scenarios.status(200, body)

    async def run() -> ModelLimits:
        provider = provider_for(upstream)
        try:
            return await Catalogue(provider, 60).limits("m", ASSUMED)
        finally:
            await provider.aclose()

    assert asyncio.run(run()).context == ASSUMED


def test_turns_do_not_wait_while_the_names_of_many_models_are_sorted(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def recorded(models: list[dict[str, Any]]) -> Names:
        threads.append(threading.current_thread())
        return Names(models)

    monkeypatch.setattr(catalogue, "Names", recorded)
    assert context(upstream, "m", {"id": "m", "context_length": 4096}) == 4096
    assert threads[-1] is not threading.main_thread()


LISTED: list[dict[str, Any]] = [
    {"id": "exact/Model", "context_length": 1001},
    {"id": "models/gemini-2.5-flash", "context_length": 1002},
    {"id": "llama3.2:latest", "context_length": 1003},
    {"id": "qwen3:4b", "context_length": 1004},
    {"id": "openai/gpt-4o", "canonical_slug": "openai/gpt-4o-2024-11-20", "context_length": 1005},
    {"id": "ministral-8b-2410", "aliases": ["ministral-8b-latest"], "context_length": 1006},
    {"id": "plain", "context_length": 1007},
    {"id": "one/twice", "context_length": 1008},
    {"id": "two/twice", "context_length": 1009},
    {"id": "adapted", "parent": "plain", "context_length": None},
    {"id": "plain:free", "context_length": 1010},
]
NAMES = [
    ("exact/Model", 1001), ("exact/model", 1001), ("exact/Model:nitro", 1001), ("Model", 1001),
    ("gemini-2.5-flash", 1002), ("models/gemini-2.5-flash", 1002), ("Models/Gemini-2.5-Flash", 1002),
    ("llama3.2", 1003), ("llama3.2:latest", 1003), ("qwen3:4b", 1004), ("gpt-4o", 1005), ("openai/gpt-4o:floor", 1005),
    ("openai/gpt-4o-2024-11-20", 1005), ("ministral-8b-latest", 1006), ("plain:latest", 1007), ("openai/plain", 1007),
    ("plain:free", 1010), ("adapted", 1007), ("two/twice", 1009), ("twice", ASSUMED), ("three/twice", ASSUMED),
    ("unknown", ASSUMED), ("", ASSUMED), (":", ASSUMED), ("/", ASSUMED),
]  # fmt: skip


@pytest.mark.parametrize(("model", "tokens"), NAMES)
def test_a_model_is_found_by_the_name_that_the_caller_uses(upstream: Upstream, model: str, tokens: int) -> None:
    assert context(upstream, model, *LISTED) == tokens


def test_the_only_model_of_a_server_has_any_name(upstream: Upstream) -> None:
    """llama.cpp lists a path and answers whatever the name."""
    path = {"id": "/models/smol.gguf", "meta": {"n_ctx": 2048}}
    assert context(upstream, "gpt-3.5-turbo", path) == 2048
    assert context(upstream, "gpt-3.5-turbo", path, {"id": "another"}) == ASSUMED


def test_a_bare_list_counts_too(upstream: Upstream) -> None:
    assert limits(upstream, [{"id": "m", "context_length": 8192}]).context == 8192


def refuses_all_but(key: str, status: int) -> scenarios.Scenario:
    async def play(exchange: Exchange) -> None:
        known = exchange.request.headers.get("authorization") == f"Bearer {key}"
        await (scenarios.models() if known else scenarios.status(status))(exchange)

    return play


@pytest.mark.parametrize(("server_key", "status"), [("wrong", 401), ("", 403)])
def test_a_caller_s_key_lists_the_models_where_the_server_s_was_refused(
    make_service: MakeService, upstream: Upstream, server_key: str, status: int
) -> None:
    service = make_service(OPENROUTER_API_KEY=server_key)
    caller = Caller(service)
    upstream.models = refuses_all_but(caller.key, status)
    for _ in range(2):
        assert len(good(caller.get("/models"))["data"]) == 2
    assert Caller(service, key="").get("/models").status_code == status
    refused = Caller(service, key="sk-wrong").get("/models")
    problem(refused, status, "provider_auth_failed" if status == 401 else "permission_denied")
