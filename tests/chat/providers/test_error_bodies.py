"""Errors in the words of some forty providers and gateways: status, name and words together say what happened."""

import asyncio
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from chat.providers import ChatMessage, Options
from chat.providers.errors import from_body
from testing import scenarios
from testing.exchange import event
from testing.upstream import Upstream
from tests.support.replies import ask, collect, provider_for

Row = tuple[int, Any]

# ruff: noqa: E501 - a provider's sentence is one line


def openai(message: str, kind: str | None = None, code: Any = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def flat(message: str, kind: str = "BadRequestError", code: int = 400) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def gemini(code: int, status: str, message: str, *details: Any) -> list[Any]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def openrouter(code: int, message: str = "Provider returned error", **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": metadata}}


def litellm(name: str, message: str, code: int) -> dict[str, Any]:
    return {"error": {"message": f"litellm.{name}: {message}", "type": None, "param": None, "code": str(code)}}


QUOTA = "You exceeded your current quota, please check your plan and billing details."
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
    }
}

PAYMENT: list[Row] = [
    (429, openai(QUOTA, "insufficient_quota", "insufficient_quota")),
    (429, openai("Your account org-1 <ak-1> has exceeded its account quota.", "exceeded_current_quota_error")),
    (429, openai("You have exceeded your account quota", None, None)),
    (402, openai("Insufficient Balance", "unknown_error", "invalid_request_error")),
    (400, openai("Billing hard limit has been reached", "invalid_request_error", "billing_hard_limit_reached")),
    (400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API.")),
    (403, openrouter(403, "Key limit exceeded (total limit). Manage it using your dashboard")),
    (402, openrouter(402, "This request requires more credits, or fewer max_tokens.")),
    (
        403,
        {"error": {"message": "用户额度不足, 剩余额度: 0", "type": "new_api_error", "code": "insufficient_user_quota"}},
    ),
    (400, litellm("BudgetExceededError", "Budget has been exceeded! Current cost: 10.1, Max budget: 10.0", 400)),
    (400, {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."}),
    (429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}}),
    (429, {"code": "insufficient_credits", "error": "Your team has used all available credits."}),
    (403, "Your account has run out of credits. Purchase more credits to continue."),
    (500, openai("upstream: insufficient quota", "upstream_error", "insufficient_quota")),
    (429, {"detail": "You have exceeded your monthly included credits for Inference Providers."}),
]
RATE: list[Row] = [
    (
        429,
        openai(
            "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM)",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    (429, gemini(429, "RESOURCE_EXHAUSTED", f"{QUOTA} Quota exceeded for metric: requests_per_minute", RETRY_INFO)),
    (429, gemini(429, "RESOURCE_EXHAUSTED", QUOTA)),
    (429, openrouter(429, "Rate limit exceeded: free-models-per-day")),
    (429, {"message": "Too Many Requests"}),
    (429, "slow down"),
    (
        413,
        openai(
            "Request too large for model in organization on tokens per minute (TPM): Limit 6000, Requested 7000",
            "tokens",
            "rate_limit_exceeded",
        ),
    ),
    (429, openai("No deployments available for selected model, Try again in 5 seconds.", None, "429")),
    (429, {"error": {"code": "1302", "message": "您的账户已达到速率限制"}}),
    (400, {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded, please try again later."}),
    (429, flat("Quota exceeded: 60 requests per minute", "rate", 429)),
]
MODERATED: list[Row] = [
    (400, AZURE_FILTER),
    (
        400,
        openai(
            "Your request was rejected as a result of our safety system.",
            "invalid_request_error",
            "content_policy_violation",
        ),
    ),
    (
        400,
        openai(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            "invalid_request_error",
            "invalid_prompt",
        ),
    ),
    (403, openrouter(403, "Input was flagged", reasons=["violence"], flagged_input="o texto de alguém")),
    (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}),
    (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    (403, {"code": "Forbidden", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}),
    (400, gemini(400, "INVALID_ARGUMENT", "The prompt was blocked due to PROHIBITED_CONTENT: harmful content")),
    (400, litellm("ContentPolicyViolationError", "The response was filtered", 400)),
    (422, {"detail": "The prompt was flagged by our moderation system"}),
    (400, "Content blocked by guardrail"),
]
MODEL: list[Row] = [
    (400, openrouter(400, "x/y is not a valid model ID")),
    (
        503,
        {
            "error": {
                "message": "No available channel for model gpt-9 under group default",
                "type": "new_api_error",
                "code": "model_not_found",
            }
        },
    ),
    (503, {"error": {"message": "当前分组 default 下对于模型 gpt-9 无可用渠道", "type": "one_api_error"}}),
    (
        404,
        openai(
            "The model `gpt-9` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
    ),
    (404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}}),
    (404, {"error": "model 'x' not found"}),
    (404, flat("The model `x` does not exist.", "NotFoundError", 404)),
    (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}),
    (
        400,
        openai(
            "The model `x` has been decommissioned and is no longer supported.",
            "invalid_request_error",
            "model_decommissioned",
        ),
    ),
    (
        400,
        {
            "error": {
                "message": "Invalid model name passed in model=x. Call /v1/models to view available models",
                "code": "400",
            }
        },
    ),
    (404, openrouter(404, "No endpoints found for x/y.")),
    (400, {"message": "The provided model identifier is invalid."}),
    (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "param": None, "code": "1500"}),
    (404, gemini(404, "NOT_FOUND", "models/x is not found for API version v1main, or is not supported")),
    (400, {"error": {"code": "1211", "message": "模型不存在，请检查模型代码。"}}),
    (
        404,
        openai(
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint.",
            "invalid_request_error",
        ),
    ),
    (404, anthropic("not_found_error", "model: claude-9")),
    (400, openai("Model Not Exist", "invalid_request_error", "invalid_request_error")),
    (500, openai("litellm.NotFoundError: model_not_found", None, "500")),
    (422, {"detail": [{"loc": ["body", "model"], "msg": "unknown model x", "type": "value_error"}]}),
]
ADDRESS: list[Row] = [
    (404, "404 page not found"),
    (404, {"detail": "Not Found"}),
    (404, openai("Invalid URL (POST /v1/v1/chat/completions)", "invalid_request_error")),
    (404, {"error": {"message": "Not Found", "type": "not_found"}}),
    (404, ""),
    (404, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
]
CONTEXT: list[Row] = [
    (
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens.",
            "invalid_request_error",
        ),
    ),
    (
        400,
        {"error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.", "code": "x"},
    ),
    (
        400,
        gemini(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).",
        ),
    ),
    (400, anthropic("invalid_request_error", "prompt is too long: 213462 tokens > 200000 maximum")),
    (
        400,
        anthropic(
            "invalid_request_error", "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"
        ),
    ),
    (413, anthropic("request_too_large", "Request exceeds the maximum size")),
    (400, openai("Your input exceeds the context window of this model.", "invalid_request_error")),
    (
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        },
    ),
    (400, {"message": "too many tokens: total number of tokens in the prompt exceeds the limit of 4081."}),
    (400, {"message": "Input is too long for requested model."}),
    (
        400,
        openai(
            "Please reduce the length of the messages or completion.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
    ),
    (
        422,
        openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000", "validation"),
    ),
    (400, openai("Invalid request: Your request exceeded model token limit: 131072", "invalid_request_error")),
    (400, {"code": "InvalidParameter", "message": "Range of input length should be [1, 30720]"}),
    (400, flat("max_tokens must be at least 1, got -12.")),
    (
        400,
        flat(
            "'max_tokens' is too large: 100. This model's maximum context length is 32 tokens and your request has 20 input tokens"
        ),
    ),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
                "n_ctx": 512,
            }
        },
    ),
    (500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}),
    (
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"
        },
    ),
    (400, openrouter(400, raw=json.dumps({"error": {"message": "prompt is too long: 9 > 8"}}))),
    (400, openai("prompt token count of 70000 exceeds the limit of 64000", None, "model_max_prompt_tokens_exceeded")),
    (413, openai("Request body too large for gpt-4o model. Max size: 8000 tokens.", None, "tokens_limit_reached")),
    (
        400,
        openai("Requested token count exceeds the model's maximum context length of 202752 tokens.", "BadRequestError"),
    ),
    (400, openai("Input length 131393 exceeds the maximum allowed input length of 131040 tokens.", None, 400)),
    (400, {"error": {"message": "Prompt tokens (900) exceeds context size (512)", "type": "context_exceeded"}}),
    (400, {"error": {"code": "1261", "message": "Prompt 超长"}}),
    (400, {"error": {"message": "tokens in request more than max tokens allowed", "type": "x"}}),
    (400, litellm("ContextWindowExceededError", "BadRequestError: OpenAIException", 400)),
    (400, {"detail": "Input tokens exceed the configured limit of 272000 tokens."}),
]
KEY: list[Row] = [
    (
        401,
        openai(
            "Incorrect API key provided: sk-abc. You can find your API key at …",
            "invalid_request_error",
            "invalid_api_key",
        ),
    ),
    (
        400,
        gemini(
            400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", {"reason": "API_KEY_INVALID"}
        ),
    ),
    (403, {"error": {"message": "Invalid API key", "type": "forbidden"}}),
    (400, {"code": "invalid-argument", "error": "Incorrect API key provided: xa***x."}),
    (401, openrouter(401, "No auth credentials found")),
    (401, {"message": "Unauthorized"}),
    (500, litellm("AuthenticationError", "OpenAIException - Incorrect API key provided", 500)),
    (
        400,
        {
            "error": {
                "message": "Authentication Error, Invalid proxy server token passed",
                "type": "auth_error",
                "code": "400",
            }
        },
    ),
    (403, "Unauthorized: access key is invalid"),
    (401, {"error": {"message": "无效的令牌", "type": "new_api_error"}}),
    (400, {"detail": "Could not validate credentials"}),
    (200, openai("invalid x-api-key", "authentication_error")),
]
UNAVAILABLE: list[Row] = [
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    (529, anthropic("overloaded_error", "Overloaded")),
    (500, anthropic("overloaded_error", "Overloaded")),
    (503, "no healthy upstream"),
    (503, gemini(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")),
    (503, openai("The model x is currently not available, try again in a moment", None, None)),
    (502, openai("The server is temporarily unavailable", None, None)),
]
REFUSED: list[Row] = [
    (
        400,
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "invalid_request_error",
            "unsupported_parameter",
            param="max_tokens",
        ),
    ),
    (
        400,
        openai(
            "Unsupported value: 'temperature' does not support 0.3 with this model.",
            "invalid_request_error",
            "unsupported_value",
        ),
    ),
    (
        400,
        openai(
            "max_tokens is too large: 9000. This model supports at most 4096 completion tokens, whereas you provided 9000.",
            "invalid_request_error",
        ),
    ),
    (
        400,
        anthropic(
            "invalid_request_error",
            "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens for x",
        ),
    ),
    (
        422,
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
            ]
        },
    ),
    (400, {"error": {"message": "This model does not support the system role: System role not supported"}}),
    (400, flat("Conversation roles must alternate user/assistant/user/assistant/...")),
    (400, openai("temperature must be between 0 and 1", "invalid_request_error")),
    (400, ""),
]
OTHER: list[tuple[str, Row]] = [
    (
        "permission_denied",
        (
            403,
            openai(
                "Country, region, or territory not supported",
                "request_forbidden",
                "unsupported_country_region_territory",
            ),
        ),
    ),
    (
        "permission_denied",
        (403, {"error": {"message": "You are not allowed to sample from this model", "type": "forbidden"}}),
    ),
    ("provider_timeout", (504, {"error": {"message": "upstream deadline exceeded", "type": "timeout_error"}})),
    ("provider_timeout", (408, "")),
    ("provider_error", (500, "Internal Server Error")),
    ("provider_error", (500, openai("The server had an error while processing your request.", "server_error"))),
    ("provider_error", (504, "")),
    ("provider_error", (200, {"error": {"message": "something"}})),
    ("provider_rate_limited", (200, {"choices": None, "error_type": "rate_limit_error", "error_message": "slow down"})),
    ("provider_rate_limited", (200, {"code": "429", "msg": "too many requests", "data": None})),
    (
        "provider_payment_required",
        (200, {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
    ),
    ("unsupported_model", (200, {"error": {"error": {"message": "model x does not exist"}}})),
    ("context_length_exceeded", (200, {"error": json.dumps({"error": {"code": "context_length_exceeded"}})})),
]
TABLE = [
    *(("provider_payment_required", row) for row in PAYMENT),
    *(("provider_rate_limited", row) for row in RATE),
    *(("content_moderated", row) for row in MODERATED),
    *(("unsupported_model", row) for row in MODEL),
    *(("provider_error", row) for row in ADDRESS),
    *(("context_length_exceeded", row) for row in CONTEXT),
    *(("provider_auth_failed", row) for row in KEY),
    *(("provider_unavailable", row) for row in UNAVAILABLE),
    *(("invalid_request", row) for row in REFUSED),
    *OTHER,
]  # fmt: skip
CALLS = {("provider_rate_limited", 429): 3, ("provider_unavailable", 503): 3, ("provider_rate_limited", 503): 3}


def encoded(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()


@pytest.mark.parametrize(("code", "row"), TABLE, ids=[f"{code}-{number}" for number, (code, _) in enumerate(TABLE)])
def test_an_error_has_the_code_that_it_means(upstream: Upstream, code: str, row: Row) -> None:
    status, body = row
    headers = {"Content-Type": "text/plain" if isinstance(body, str) else "application/json", "Retry-After": "0.1"}
    upstream.otherwise = scenarios.status(status, encoded(body), headers)
    failure = ask(provider_for(upstream)).failure
    assert failure.code == code
    assert upstream.count == CALLS.get((code, status), 1 + ("stream_options" in failure.parameters))
    assert "sk-" not in str(failure)
    assert "texto" not in str(failure)


WITHIN = [(code, body) for code, (status, body) in TABLE if isinstance(body, dict | list) and status not in (404, 408)]
NUMBERED = {
    "provider_unavailable",
    "provider_rate_limited",
    "invalid_request",
    "permission_denied",
}  # without a name, the status told


@pytest.mark.parametrize(("code", "body"), WITHIN, ids=[f"{code}-{number}" for number, (code, _) in enumerate(WITHIN)])
@pytest.mark.parametrize("form", ["whole", "event", "error event"])
def test_the_same_error_within_a_200(upstream: Upstream, form: str, code: str, body: Any) -> None:
    data = encoded(body)
    before = {"whole": b"", "event": b"data: ", "error event": b"event: error\ndata: "}[form]
    upstream.script(scenarios.raw(before + data + b"\n\n"))
    answer = ask(provider_for(upstream))
    if code in NUMBERED or (form != "error event" and isinstance(body, dict) and set(body) == {"message"}):
        assert answer.failure.may_have_been_billed  # a message alone is no error
    else:
        assert answer.failure.code == code
    assert upstream.count == 1


# Further answers, one a line: the code that each means, its status (200: inside a reply) and its body.
RECORDED = [json.loads(line) for line in Path(__file__).with_name("recorded_errors.jsonl").read_text().splitlines()]
BY_CODE = {code: list(rows) for code, rows in groupby(RECORDED, key=lambda row: str(row["code"]))}


def played(row: dict[str, Any], *, stream: bool) -> scenarios.Scenario:
    if stream:
        return scenarios.raw(event(row["body"]), pause=0)
    return scenarios.status(row["status"], encoded(row["body"]))


async def heard_over_http(upstream: Upstream, rows: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """What the provider makes of each; a model for each, so that no circuit opens."""
    provider, found = provider_for(upstream, retries=0), []
    for number, row in enumerate(rows):
        for stream in (False, True) if row["status"] == 200 else (False,):
            upstream.otherwise = played(row, stream=stream)
            answer = await collect(provider, [ChatMessage("user", "Oi")], Options(f"model-{number}"))
            found.append((answer.error.code if answer.error else "", row["body"]))
    await provider.aclose()
    return found


@pytest.mark.parametrize("code", BY_CODE)
def test_each_recorded_error_has_its_code(upstream: Upstream, code: str) -> None:
    found = asyncio.run(heard_over_http(upstream, BY_CODE[code]))
    assert [each for each in found if each[0] != code] == []


def test_every_code_of_a_provider_is_in_the_records() -> None:
    assert {code for code, _ in TABLE} == set(BY_CODE)
    assert len(RECORDED) > 400


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"choices": [], "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": False}}}]},
        {"choices": [], "error": None},
        {"choices": [], "error": ""},
        {"choices": [{"delta": {"content": "Oi"}}], "code": 20000, "message": "ok", "detail": "Oi"},
        {"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}},
        {"code": 0, "msg": "success"},
        {"message": "queued"},
        {"status": "processing"},
        {"type": "ping"},
        {},
    ],
)
def test_what_is_no_error_is_none(body: dict[str, Any]) -> None:
    assert from_body(body) is None


def test_a_wrong_address_says_so_in_the_log(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    upstream.script(scenarios.status(404, b"404 page not found"))
    with caplog.at_level(logging.WARNING, "chat.providers.errors"):
        ask(provider_for(upstream))
    assert "base URL" in caplog.text


def test_azure_charges_for_what_its_filter_has_read(upstream: Upstream) -> None:
    upstream.script(scenarios.status(400, AZURE_FILTER))
    assert ask(provider_for(upstream)).failure.may_have_been_billed


def limit(**headers: str) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


WAITS: list[tuple[dict[str, str], Any, float]] = [
    (limit(retry_after="30"), "", 30),
    (limit(retry_after="12.5"), "", 12.5),
    (limit(retry_after_ms="7500"), "", 7.5),
    (limit(retry_after_ms="7500", retry_after="8"), "", 7.5),
    (limit(x_ms_retry_after_ms="9000"), "", 9),
    (limit(x_ratelimit_reset_requests="1m30.5s", x_ratelimit_remaining_requests="0"), "", 90.5),
    (limit(x_ratelimit_reset_tokens="6m0s"), "", 360),
    (limit(x_ratelimit_reset_tokens="9s", x_ratelimit_remaining_tokens="5", x_ratelimit_reset_requests="60s"), "", 60),
    (
        limit(
            x_ratelimit_reset_tokens="9s",
            x_ratelimit_remaining_tokens="0",
            x_ratelimit_reset_requests="60s",
            x_ratelimit_remaining_requests="3",
        ),
        "",
        9,
    ),
    (limit(x_ratelimit_reset="45"), "", 45),
    (limit(ratelimit_reset="45", ratelimit_remaining="0"), "", 45),
    ({}, gemini(429, "RESOURCE_EXHAUSTED", QUOTA, RETRY_INFO), 34),
    ({}, openai("Rate limit reached. Please try again in 20s.", "requests", "rate_limit_exceeded"), 20),
    ({}, openai("Please try again in 1m30.5s. Visit", None, "rate_limit_exceeded"), 90.5),
    ({}, openai("Please retry after 6 seconds.", None, "429"), 6),
    ({}, openai("Please try again in 7500ms.", None, "rate_limit_exceeded"), 7.5),
    ({}, openai("Try again in 2 minutes and 5 seconds", None, "rate_limit_exceeded"), 125),
    ({}, {"error": {"code": 429, "message": "cold", "availability": {"retry_after": 20}}}, 20),
    ({}, {"error": {"code": 429, "message": "x", "retry_after_ms": 9500}}, 9.5),
    ({}, {"detail": "slow", "retry_after": "15"}, 15),
    (limit(retry_after="30s"), "", 30),
    (limit(x_rate_limit_reset="45", x_rate_limit_remaining="0"), "", 45),
    (limit(x_ratelimit_reset_after="17"), "", 17),
    (limit(ratelimit="limit=10, remaining=0, reset=30"), "", 30),
    (limit(ratelimit='"default";r=0;t=30'), "", 30),
    (
        limit(
            x_ratelimit_reset_tokens_minute="12",
            x_ratelimit_remaining_tokens_minute="0",
            x_ratelimit_reset_requests_day="33000",
            x_ratelimit_remaining_requests_day="2000",
        ),
        "",
        12,
    ),
    ({}, {"error": {"details": [{"@type": "x.RetryInfo", "retryDelay": {"seconds": 34, "nanos": 5}}]}}, 34),
    ({}, {"error": "Model x is currently loading", "estimated_time": 20.5}, 20.5),
    ({}, {"error": {"type": "usage_limit_reached", "message": "x", "resets_in_seconds": 500}}, 500),
    ({}, {"error": {"message": "Rate limit of 8 per 86400s exceeded. Please wait 41213 seconds before it."}}, 41213),
    ({}, openai("Please try again in 1h2m3s.", None, "rate_limit_exceeded"), 3723),
]


@pytest.mark.parametrize(("headers", "body", "seconds"), WAITS)
def test_a_pause_is_found_wherever_it_is(
    upstream: Upstream, headers: dict[str, str], body: Any, seconds: float
) -> None:
    upstream.otherwise = scenarios.status(429, encoded(body), headers)
    failure = ask(provider_for(upstream, retries=0)).failure
    assert failure.retry_after == pytest.approx(seconds)


def test_a_limit_that_is_used_up_may_be_renewed_at_a_time_of_day(upstream: Upstream) -> None:
    moment = (datetime.now(UTC) + timedelta(seconds=40)).isoformat().replace("+00:00", "Z")
    headers = limit(anthropic_ratelimit_requests_reset=moment, anthropic_ratelimit_requests_remaining="0")
    others = limit(anthropic_ratelimit_tokens_reset="2099-01-01T00:00:00Z", anthropic_ratelimit_tokens_remaining="5")
    upstream.otherwise = scenarios.status(429, {}, headers | others)
    assert 30 < (ask(provider_for(upstream, retries=0)).failure.retry_after or 0) <= 40


@pytest.mark.parametrize(("rest", "seconds"), [("0", 60), ("5", None)])
def test_a_limit_explains_a_503_only_where_it_is_used_up(upstream: Upstream, rest: str, seconds: int | None) -> None:
    headers = limit(x_ratelimit_reset_requests="60s", x_ratelimit_remaining_requests=rest)
    upstream.otherwise = scenarios.status(503, {}, headers)
    assert ask(provider_for(upstream, retries=0)).failure.retry_after == seconds


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_moment_since_1970_is_a_pause(upstream: Upstream, unit: int) -> None:
    moment = str(int((time.time() + 50) * unit))
    body = {"error": {"code": 429, "message": "x", "metadata": {"headers": {"X-RateLimit-Reset": moment}}}}
    upstream.otherwise = scenarios.status(429, body)
    assert 40 < (ask(provider_for(upstream, retries=0)).failure.retry_after or 0) <= 50


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon", "", "1e400", "99999999999999999999999"])
def test_a_senseless_pause_is_none_or_bounded(upstream: Upstream, value: str) -> None:
    upstream.otherwise = scenarios.status(429, {"error": {"retry_after": value}}, {"Retry-After": value})
    pause = ask(provider_for(upstream, retries=0)).failure.retry_after
    assert pause is None or pause == 24 * 3600


def test_what_cannot_help_names_no_pause(upstream: Upstream) -> None:
    upstream.script(scenarios.status(401, b"", {"Retry-After": "30"}))
    assert ask(provider_for(upstream)).failure.retry_after is None
