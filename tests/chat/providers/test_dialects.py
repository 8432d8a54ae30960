"""A whole reply as each provider in docs/settings.md streams it: its text, its counts and its end are understood."""

import json
import re
from typing import Any

import pytest

from testing import scenarios
from testing.environment import ROOT
from testing.upstream import Upstream
from tests.support.replies import ask, provider_for

COUNTS = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def piece(finish: str | None = None, /, **delta: Any) -> dict[str, Any]:
    """The only choice of an event."""
    return {"index": 0, "delta": delta, "finish_reason": finish}


def event(*choices: dict[str, Any], **more: Any) -> str:
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1764000000, "model": "m"}
    return f"data: {json.dumps({**body, 'choices': choices, **more})}\n\n"


ROLE, SAID, END = piece(role="assistant", content=""), piece(content="Olá!"), piece("stop")
SAFE = {"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
STREAMS = {
    "OpenRouter": [
        ": OPENROUTER PROCESSING\n\n",
        event({**SAID, "native_finish_reason": None}, provider="Mistral"),
        event({**piece("stop", content=""), "native_finish_reason": "end_turn"}, provider="Mistral"),
        event(ROLE, usage={**COUNTS, "cost": 0.0001, "is_byok": False}),
    ],
    "OpenAI": [
        event(piece(role="assistant", content="", refusal=None), usage=None, obfuscation="x"),
        event({**SAID, "logprobs": None}, usage=None, service_tier="default", obfuscation="xyz"),
        event(END, usage=None),
        event(usage={**COUNTS, "completion_tokens_details": {"reasoning_tokens": 0}}),
    ],
    "Azure OpenAI (v1)": [
        event(id="", model="", object="", created=0, prompt_filter_results=[{"prompt_index": 0, **SAFE}]),
        event({**SAID, **SAFE}, usage=None),
        event({**END, "content_filter_results": {}}, usage=None),
        event(usage=COUNTS),
    ],
    "Anthropic (OpenAI compatibility)": [event(ROLE), event(SAID), event(END), event(usage=COUNTS)],
    "Gemini (OpenAI compatibility)": [
        event(piece(role="assistant", content="Olá"), usage={**COUNTS, "completion_tokens": 1, "total_tokens": 13}),
        event(piece("stop", role="assistant", content="!"), usage=COUNTS),
    ],
    "Mistral": [event(ROLE), event(SAID, p="abcdef"), event(piece("stop", content=""), p="a", usage=COUNTS)],
    "Groq": [
        event(ROLE, x_groq={"id": "req_1"}),
        event(SAID),
        event(END, x_groq={"id": "req_1", "usage": {**COUNTS, "queue_time": 0.1, "total_time": 0.2}}),
    ],
    "DeepSeek": [
        ": keep-alive\n\n",
        event(piece(role="assistant", content=None, reasoning_content="Penso.")),
        event(piece(content="Olá!", reasoning_content=None)),
        event(piece("stop", content=""), usage={**COUNTS, "prompt_cache_hit_tokens": 0}),
    ],
    "xAI": [
        event(SAID),
        event(piece("stop", content="")),
        event(usage={**COUNTS, "num_sources_used": 0, "prompt_tokens_details": {"text_tokens": 12}}),
    ],
    "Moonshot": [event(ROLE), event(SAID), event({**END, "usage": COUNTS})],
    "Together": [
        event({**piece(content="Olá!", token_id=1), "text": "Olá!", "seed": None}, usage=None),
        event({**piece("stop", content="", token_id=2), "text": "", "seed": 1}, usage=COUNTS),
    ],
    "vLLM": [
        event({**ROLE, "logprobs": None}, prompt_token_ids=None),
        event({**SAID, "token_ids": None}),
        event({**piece("stop", content=""), "stop_reason": None}),
        event(usage=COUNTS),
    ],
    "Ollama": [
        event(SAID, system_fingerprint="fp_ollama"),
        event(piece("stop", role="assistant", content=""), system_fingerprint="fp_ollama"),
        event(usage=COUNTS),
    ],
    "LM Studio": [event(SAID, system_fingerprint="m"), event(END), event(usage=COUNTS, stats={})],
    "llama.cpp server": [
        event(piece(role="assistant", content=None)),
        event(SAID),
        event(END),
        event(usage={**COUNTS, "prompt_tokens_details": {"cached_tokens": 0}}, timings={"predicted_n": 3}),
    ],
    "LiteLLM proxy": [
        event({**SAID, "provider_specific_fields": None}, citations=None),
        event(END),
        event(piece(), usage=COUNTS),
    ],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_reply_of_each_provider_is_understood(upstream: Upstream, name: str) -> None:
    upstream.script(scenarios.raw("".join([*STREAMS[name], "data: [DONE]\n\n"]).encode(), pause=0))
    answer = ask(provider_for(upstream, "openrouter" if name == "OpenRouter" else "openai"))
    assert answer.error is None
    assert (answer.text, answer.last.finish_reason) == ("Olá!", "stop")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (12, 3, False)


def test_every_provider_in_the_settings_is_among_them() -> None:
    section = (ROOT / "docs" / "settings.md").read_text().partition("### Providers that were tried")[2]
    table = section.partition("\n## ")[0]
    assert re.findall(r"(?m)^\| ([^|`-][^|]*?) \|", table)[1:] == list(STREAMS)
