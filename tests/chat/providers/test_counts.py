"""What the provider counted is what is recorded, wherever it says so."""

import json
from decimal import Decimal
from typing import Any

import pytest

from testing import scenarios
from testing.exchange import event
from testing.upstream import Upstream
from tests.chat.providers.test_answers import chunk, lines, sent, whole
from tests.support.replies import Answer, ask, provider_for

TEXT = "doze letras!"  # 3 tokens where nobody counts
PLAIN = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}


def answered(upstream: Upstream, *documents: Any) -> Answer:
    upstream.script(sent(lines(*documents, "[DONE]")))
    return ask(provider_for(upstream), "abcdefgh")


def figures(answer: Answer) -> tuple[int, int, bool]:
    return answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.estimated


def beside(**counts: Any) -> list[dict[str, Any]]:
    return [chunk(TEXT, "stop"), {"choices": [], "usage": counts}]


def in_chunks(*counts: Any) -> list[dict[str, Any]]:
    """Counts in each piece of a reply; the last one ends it."""
    texts = [TEXT[:1]] * (len(counts) - 1) + [TEXT[1:]]
    ends = [None] * (len(counts) - 1) + ["stop"]
    return [chunk(text, end, usage=count) for text, end, count in zip(texts, ends, counts, strict=True)]


PLACES: dict[str, tuple[list[dict[str, Any]], tuple[int, int]]] = {
    "in a last chunk": (beside(**PLAIN), (20, 5)),
    "with the reason": ([chunk(TEXT, "stop", usage=PLAIN)], (20, 5)),
    "inside the choice": (
        [{"choices": [{"index": 0, "delta": {"content": TEXT}, "finish_reason": "stop", "usage": PLAIN}]}],
        (20, 5),
    ),
    "inside the choice, behind the end": (
        [chunk(TEXT, "stop"), {"choices": [{"index": 0, "delta": {}, "usage": PLAIN}]}],
        (20, 5),
    ),
    "under Groq's name": ([chunk(TEXT, "stop", x_groq={"id": "r", "usage": PLAIN})], (20, 5)),
    "llama.cpp's timings": ([chunk(TEXT, "stop", timings={"prompt_n": 20, "predicted_n": 5})], (20, 5)),
    "timings beside counts": (
        [chunk(TEXT, "stop", usage=PLAIN, timings={"prompt_n": 1, "predicted_n": 1})],
        (20, 5),
    ),
    "input and output": (beside(input_tokens=20, output_tokens=5), (20, 5)),
    "input first, output last": (
        in_chunks({"prompt_tokens": 20, "completion_tokens": 0}, {"prompt_tokens": 0, "completion_tokens": 5}),
        (20, 5),
    ),
    "growing": (in_chunks({**PLAIN, "completion_tokens": 1, "total_tokens": 21}, PLAIN), (20, 5)),
    "null in between": (in_chunks(PLAIN, None), (20, 5)),
    "zeros afterwards": (
        [chunk(TEXT, "stop", usage=PLAIN), {"choices": [], "usage": dict.fromkeys(PLAIN, 0)}],
        (20, 5),
    ),
    "nulls afterwards": (
        [chunk(TEXT, "stop", usage=PLAIN), {"choices": [], "usage": dict.fromkeys(PLAIN)}],
        (20, 5),
    ),
    "thinking beside the completion": (
        beside(prompt_tokens=20, completion_tokens=5, total_tokens=125, reasoning_tokens=100),
        (20, 105),
    ),
    "thinking beside it, in details": (
        beside(
            prompt_tokens=20,
            completion_tokens=5,
            total_tokens=125,
            completion_tokens_details={"reasoning_tokens": 100},
        ),
        (20, 105),
    ),
    "thinking beside it, without a total": (
        beside(prompt_tokens=20, completion_tokens=5, completion_tokens_details={"reasoning_tokens": 100}),
        (20, 105),
    ),
    "a total alone tells of thinking": (beside(prompt_tokens=20, completion_tokens=5, total_tokens=40), (20, 20)),
    "thinking within the completion": (
        beside(
            prompt_tokens=20,
            completion_tokens=105,
            total_tokens=125,
            completion_tokens_details={"reasoning_tokens": 100},
        ),
        (20, 105),
    ),
    "no completion, but a total": (beside(prompt_tokens=20, total_tokens=25), (20, 5)),
    "a total that is too small": (beside(prompt_tokens=20, completion_tokens=5, total_tokens=3), (20, 5)),
}


@pytest.mark.parametrize("place", PLACES)
def test_counts_are_found_wherever_they_are(upstream: Upstream, place: str) -> None:
    documents, counts = PLACES[place]
    answer = answered(upstream, *documents)
    assert (answer.text, figures(answer)) == (TEXT, (*counts, False))


@pytest.mark.parametrize("place", [place for place, (documents, _) in PLACES.items() if len(documents) == 1])
def test_counts_of_a_whole_answer_too(upstream: Upstream, place: str) -> None:
    documents, counts = PLACES[place]
    choice = {**documents[0]["choices"][0], "message": {"content": TEXT}}
    del choice["delta"]
    upstream.script(sent(json.dumps({**documents[0], "choices": [choice]}).encode(), "application/json"))
    assert figures(ask(provider_for(upstream))) == (*counts, False)


@pytest.mark.parametrize(
    ("counts", "cached", "reasoning"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 9}}, 9, 0),
        ({"prompt_cache_hit_tokens": 9, "prompt_cache_miss_tokens": 11}, 9, 0),
        ({"cached_tokens": 9}, 9, 0),
        ({"input_tokens_details": {"cached_tokens": 9}, "output_tokens_details": {"reasoning_tokens": 4}}, 9, 4),
        ({"completion_tokens_details": {"reasoning_tokens": 4}}, 0, 4),
        ({"reasoning_tokens": 4}, 0, 4),
    ],
)
def test_cached_and_thinking_tokens_are_found(
    upstream: Upstream, counts: dict[str, Any], cached: int, reasoning: int
) -> None:
    usage = answered(upstream, *beside(**PLAIN, **counts)).usage
    assert (usage.cached_tokens, usage.reasoning_tokens) == (cached, reasoning)


@pytest.mark.parametrize(
    ("counts", "cost"),
    [
        ({"cost": 0.036}, "0.036"),
        ({"cost": 0}, "0"),
        ({"cost": 0, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.036}}, "0"),
        ({"cost": 0.04, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.036}}, "0.04"),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.036}}, "0.036"),
        ({"cost": 0.0018, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.036}}, "0.0378"),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0, "is_byok": True, "cost_details": None}, None),
        ({"cost": 0, "is_byok": True}, None),
        ({"cost": {"total_cost": 0.006, "request_cost": 0.005}}, "0.006"),
        ({"cost": {"what": 1}}, None),
        ({"estimated_cost": 0.00002}, "0.00002"),
        ({"cost_in_usd_ticks": 37756000}, "0.0037756"),
        ({"cost": None}, None),
        ({}, None),
    ],
)
def test_the_cost_is_what_was_charged_or_unknown(upstream: Upstream, counts: Any, cost: str | None) -> None:
    found = answered(upstream, *beside(**PLAIN, **counts)).usage.cost
    assert found == (None if cost is None else Decimal(cost))


def test_a_zero_cost_behind_a_real_one_takes_nothing_back(upstream: Upstream) -> None:
    documents = [chunk(TEXT, "stop", usage={**PLAIN, "cost": 0.5}), {"choices": [], "usage": {**PLAIN, "cost": 0}}]
    assert answered(upstream, *documents).usage.cost == Decimal("0.5")


FAILURES: dict[str, list[Any]] = {
    "all spent on thinking": [chunk(None, "length"), {"choices": [], "usage": PLAIN}],
    "an error with counts": [chunk("a"), {"error": {"code": 500, "message": "x"}, "choices": [], "usage": PLAIN}],
    "an error after counts": [chunk("a", usage=PLAIN), {"error": {"code": 500, "message": "x"}}],
    "a broken reply": [chunk("a", "insufficient_system_resource", usage=PLAIN)],
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_reply_tells_what_it_used(upstream: Upstream, failure: str) -> None:
    answer = answered(upstream, *FAILURES[failure])
    assert answer.failure.may_have_been_billed
    assert figures(answer) == (20, 5, False)


def test_a_cut_reply_tells_what_was_counted_before(upstream: Upstream) -> None:
    upstream.script(scenarios.raw(event(chunk("a", usage=PLAIN)), end=False))
    answer = ask(provider_for(upstream))
    assert (answer.failure.code, *figures(answer)) == ("provider_invalid_response", 20, 5, False)


def test_thinking_alone_in_a_whole_answer(upstream: Upstream) -> None:
    upstream.script(sent(json.dumps(whole(None, "length", usage=PLAIN)).encode(), "application/json"))
    answer = ask(provider_for(upstream))
    assert (answer.failure.code, answer.failure.finish_reason) == ("provider_invalid_response", "length")
    assert figures(answer) == (20, 5, False)
