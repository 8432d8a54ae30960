"""A model that refuses a part of the request by name is asked again without it, three times at most."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from chat.providers import ChatMessage, Options, ProviderError
from chat.providers.request import MAX_MODELS, REMEMBERED, Form, LearnedForms, Request
from testing import scenarios
from testing.exchange import Exchange
from testing.upstream import Upstream
from tests.support.replies import Answer, ask, collect, provider_for

WORDS = "Unsupported parameter: '{}' is not supported with this model."
GOOD = {"stream": scenarios.ok("Pronto"), "JSON": scenarios.plain_json("Pronto")}
TALK = (ChatMessage("system", "Seja breve."), ChatMessage("user", "Oi"))
CHATTING: dict[str, Any] = {"temperature": 0.3, "max_tokens": 50, "session_id": "s"}


def said(message: Any, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def refusal(*names: str) -> scenarios.Scenario:
    return scenarios.status(400, said(" ".join(WORDS.format(name) for name in names)))


def refusing(*names: str, then: scenarios.Scenario = GOOD["stream"]) -> scenarios.Scenario:
    """A model that names the first of `names` that a request has."""

    async def play(exchange: Exchange) -> None:
        found = next((name for name in names if name in exchange.request.body), None)
        await (refusal(found) if found else then)(exchange)

    return play


def turn(upstream: Upstream, messages: Sequence[ChatMessage] = TALK, **settings: Any) -> Answer:
    return turns(upstream, [messages], **settings)[0]


def turns(upstream: Upstream, talks: Sequence[Sequence[ChatMessage]], **settings: Any) -> list[Answer]:
    """The replies of one provider to several conversations."""

    async def run() -> list[Answer]:
        provider = provider_for(upstream, **settings)
        try:
            return [await collect(provider, talk, Options("", **CHATTING)) for talk in talks]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def left_out(answer: Answer) -> tuple[str, ...]:
    assert answer.error is None
    assert answer.text == "Pronto"
    found = {piece.left_out for piece in answer.pieces if piece.left_out}
    assert len(found) <= 1
    return next(iter(found), ())


# What is recognised

REFUSALS: dict[str, tuple[Any, str]] = {
    "OpenAI": (said(WORDS.format("temperature"), param="temperature", code="unsupported_parameter"), "temperature"),
    "OpenAI, a value": (
        said("Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) value is."),
        "temperature",
    ),
    "OpenAI, a param alone": (said("No.", param="stream_options.include_usage"), "stream_options"),
    "OpenAI, old": (said("Unrecognized request argument supplied: stream_options", param=None), "stream_options"),
    "several": (said("Unrecognized request arguments supplied: top_k, stream_options"), "stream_options"),
    "OpenAI, unverified": (said("You must be verified to stream this model.", param="stream"), "stream"),
    "not streamed": (said("This model does not support streaming."), "stream"),
    "unknown": (said("Unknown parameter: 'session_id'."), "session_id"),
    "FastAPI": ({"detail": [{"loc": ["body", "temperature"], "msg": "at most 0.2"}]}, "temperature"),
    "pydantic": (
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "plugins"], "msg": "Extra", "input": "temperature"}]},
        "plugins",
    ),
    "vLLM": (
        {
            "object": "error",
            "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs'}]",
        },
        "stream_options",
    ),
    "pydantic's text": (
        b"1 validation error for Chat\nstream_options\n  Extra inputs are not permitted [type=extra_forbidden]",
        "stream_options",
    ),
    "Mistral": (
        {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "session_id"], "msg": "Extra"}]}},
        "session_id",
    ),
    "Gemini": (
        [said('Invalid JSON payload received. Unknown name "stream_options": Cannot find field.', code=400)],
        "stream_options",
    ),
    "LiteLLM": (said("UnsupportedParamsError: x does not support parameters: ['temperature'], for x."), "temperature"),
    "LiteLLM, values": (said("x does not support parameters: {'top_k': 0.3, 'temperature': 1}"), "temperature"),
    "LiteLLM, quoting": (
        said('OpenAIException - {"error": {"param": "temperature", "message": ""}} is unsupported'),
        "temperature",
    ),
    "OpenRouter, quoting": (
        said("Provider returned error", metadata={"raw": json.dumps(said("Unknown parameter: 'temperature'"))}),
        "temperature",
    ),
    "Anthropic": (said("`temperature` is deprecated for this model."), "temperature"),
    "Anthropic, a range": (said("temperature: range: 0..1"), "temperature"),
    "Bedrock": ({"message": "Malformed: #: extraneous key [stream_options] is not permitted."}, "stream_options"),
    "Groq": (said("property 'plugins' is unsupported"), "plugins"),
    "Go": (said('json: unknown field "session_id"'), "session_id"),
    "Rust": (said("unknown field `plugins`, expected one of `model`, `temperature`"), "plugins"),
    "Python": (said("create() got an unexpected keyword argument 'session_id'"), "session_id"),
    "JSON Schema": (said("Additional properties are not allowed ('plugins' was unexpected)"), "plugins"),
    "xAI": (
        {"code": "Invalid", "error": "Argument not supported on this model: temperature"},
        "temperature",
    ),
    "Bedrock, a range": (
        {"message": "Value '1.5' at 'inferenceConfig.temperature' failed to satisfy constraint: less than 1"},
        "temperature",
    ),
    "stream options": (said("Stream options can only be defined when `stream=True`."), "stream_options"),
    "Bedrock, too long": (
        said("The maximum tokens you requested exceeds the model limit of 40. Try again with a lower one."),
        "max_tokens",
    ),
    "Groq, too long": (
        said("max_tokens must be at most `40`, the maximum value for `max_tokens` is less than the `context_window`"),
        "max_tokens",
    ),
    "a range": (said("temperature must be <= 0.2"), "temperature"),
    "words": (b"The temperature parameter cannot be set for this model", "temperature"),
    "OpenAI, too long": (said("max_tokens is too large: 50. It supports at most 40 tokens."), "max_tokens"),
    "Anthropic, too long": (said("max_tokens: 50 > 40, which is the maximum"), "max_tokens"),
    "Gemini, too long": (
        said("It has maxOutputTokens value of 50 but the supported range is 1 to 40."),
        "max_tokens",
    ),
    "Qwen, too long": (said("<400> InvalidParameter: Range of max_tokens should be [1, 40]"), "max_tokens"),
}


@pytest.mark.parametrize("good", GOOD)
@pytest.mark.parametrize("name", REFUSALS)
def test_what_a_refusal_names_is_left_out_and_told(upstream: Upstream, name: str, good: str) -> None:
    body, parameter = REFUSALS[name]
    upstream.script(scenarios.status(422 if "pydantic" in name else 400, body), GOOD[good])
    assert left_out(turn(upstream)) == (parameter,)
    first, second = (request.body for request in upstream.requests)
    gone = {"stream", "stream_options"} if parameter == "stream" else {parameter}
    assert first.keys() - second.keys() == gone
    assert second == {key: value for key, value in first.items() if key not in gone}


@pytest.mark.parametrize("good", GOOD)
@pytest.mark.parametrize(
    "settings, first, second",
    [
        ({}, "max_tokens", "max_completion_tokens"),
        ({"max_tokens_parameter": "max_completion_tokens"}, "max_completion_tokens", "max_tokens"),
    ],
)
def test_max_tokens_is_renamed_first_and_then_left_out(
    upstream: Upstream, settings: dict[str, Any], first: str, second: str, good: str
) -> None:
    upstream.otherwise = refusing(first, then=GOOD[good])
    assert left_out(turn(upstream, **settings)) == ()
    assert upstream.requests[-1].body[second] == 50
    upstream.otherwise = refusing(first, second, then=GOOD[good])
    assert left_out(turn(upstream, **settings)) == ("max_tokens",)
    assert upstream.count == 2 + 3
    assert not {first, second} & upstream.requests[-1].body.keys()


def test_several_parameters_of_one_refusal_are_put_right_at_once(upstream: Upstream) -> None:
    upstream.script(refusal("max_tokens", "temperature", "plugins"))
    upstream.otherwise = scenarios.ok("Pronto")
    assert left_out(turn(upstream)) == ("temperature", "plugins")
    assert (upstream.count, upstream.requests[-1].body["max_completion_tokens"]) == (2, 50)


def test_three_times_at_most(upstream: Upstream) -> None:
    upstream.otherwise = refusing("stream_options", "temperature", "session_id", "plugins")
    failure = turn(upstream).failure
    assert (failure.code, failure.may_have_been_billed, upstream.count) == ("invalid_request", False, 4)
    assert failure.parameters == ("plugins",)
    assert "plugins" in failure.detail
    assert "Unsupported" not in failure.detail


def test_what_is_refused_although_it_was_left_out_is_not_asked_again(upstream: Upstream) -> None:
    upstream.otherwise = refusal("temperature")
    assert turn(upstream).failure.code == "invalid_request"
    assert upstream.count == 2


# What is not

OTHERS: dict[str, tuple[int, Any]] = {
    "no name": (400, said("Your request was rejected.")),
    "no body": (400, b""),
    "not sent": (400, said("Unknown parameter: 'top_k'. Supported: temperature, max_tokens", param="top_k")),
    "a list of the others": (400, said("Unknown parameter 'top_k', supported are temperature and max_tokens")),
    "a message": (400, said("'messages[1].content' is invalid: temperature", param="messages[1].content")),
    "the model": (400, said("The model does not support this", param="model")),
    "required": (422, {"detail": [{"loc": ["body", "max_tokens"], "msg": "Field required", "type": "missing"}]}),
    "credit": (400, said("Your credit balance is too low; max_tokens too large")),
    "a higher max_tokens": (400, said("Could not finish the message because max_tokens was reached. Use higher ones.")),
    "the system": (400, said("system error: not supported")),
    "context": (400, said("max_tokens is too large", param="max_tokens", code="context_length_exceeded")),
    "401": (401, said(WORDS.format("temperature"))),
    "402": (402, said(WORDS.format("temperature"))),
    "403": (403, said(WORDS.format("temperature"))),
    "404": (404, said(WORDS.format("temperature"))),
    "413": (413, said(WORDS.format("temperature"))),
    "500": (500, said(WORDS.format("temperature"))),
    "a page": (400, b"<html>temperature is not supported</html>"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_names_nothing_that_was_sent_is_not_asked_again(upstream: Upstream, name: str) -> None:
    status, body = OTHERS[name]
    headers = {"Content-Type": "text/html"} if name == "a page" else {}
    upstream.otherwise = scenarios.status(status, body, headers)
    assert turn(upstream).error
    assert upstream.count == 1


@pytest.mark.parametrize("scenario", [scenarios.error_in_200, scenarios.error_mid_stream])
def test_after_acceptance_nothing_is_asked_again(upstream: Upstream, scenario: Any) -> None:
    upstream.otherwise = scenario(400, message=WORDS.format("temperature"), param="temperature")
    assert turn(upstream).failure.may_have_been_billed
    assert upstream.count == 1


# Roles

SYSTEMS = [
    said("System role not supported"),
    said("system messages are not supported by this model"),
    said("This model doesn't support system messages. Try again without them."),
    said("The model does not support system prompts"),
    said("Only user and assistant roles are supported!"),
    said("Developer instruction is not enabled for models/gemma"),
    said("Unsupported value: 'messages[0].role' does not support 'system'.", param="messages[0].role"),
    said('messages: Unexpected role "system".'),
    said("messages.0.role: Input should be 'user' or 'assistant'"),
    said("messages with role 'system' are not supported"),
    said("Jinja Exception: Only user, assistant and tool roles are supported, got system."),
    {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "permitted: 'user', 'assistant'"}]},
    b"Conversation roles must alternate user/assistant/user/assistant/...",  # a template that knows no system role
]
ORDERS = [
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "After the optional system message, conversation roles must alternate user/assistant/user/assistant/...",
    "After the (optional) system message(s), user or tool message(s) should alternate with assistant message(s).",
    'messages: roles must alternate between "user" and "assistant"',
    'messages: first message must use the "user" role',
    "A conversation must start with a user message.",
    "the messages must alternate between user/assistant, starting with user",
    "Two consecutive messages with the same role are not allowed",
]


@pytest.mark.parametrize("good", GOOD)
@pytest.mark.parametrize("body", SYSTEMS, ids=lambda body: str(body)[:60])
def test_a_refused_system_prompt_goes_in_front_of_the_first_question(upstream: Upstream, body: Any, good: str) -> None:
    upstream.script(scenarios.status(400, body), GOOD[good])
    talk = [*TALK, ChatMessage("assistant", "Olá"), ChatMessage("user", "E aí?")]
    assert left_out(turn(upstream, talk)) == ("system role",)
    assert [(m["role"], m["content"]) for m in upstream.requests[-1].messages] == [
        ("user", "Seja breve.\n\nOi"),
        ("assistant", "Olá"),
        ("user", "E aí?"),
    ]


@pytest.mark.parametrize("words", ORDERS)
def test_messages_of_one_role_in_a_row_are_joined_and_a_reply_to_nothing_is_dropped(
    upstream: Upstream, words: str
) -> None:
    upstream.script(scenarios.status(400, said(words)), scenarios.ok("Pronto"))
    talk = [("system", "S"), ("assistant", "Olá"), ("user", "Oi"), ("user", "Alô"), ("assistant", "Sim"), ("user", "?")]
    assert left_out(turn(upstream, [ChatMessage(*message) for message in talk])) == ()
    sent = [(message["role"], message["content"]) for message in upstream.requests[-1].messages]
    assert sent == [("system", "S"), ("user", "Oi\n\nAlô"), ("assistant", "Sim"), ("user", "?")]


def test_a_template_may_refuse_both(upstream: Upstream) -> None:
    upstream.script(*[scenarios.status(400, said(ORDERS[0]))] * 2, scenarios.ok("Pronto"))
    assert left_out(turn(upstream, [*TALK, ChatMessage("user", "Alô")])) == ("system role",)
    assert [m["content"] for m in upstream.requests[-1].messages] == ["Seja breve.\n\nOi\n\nAlô"]


@pytest.mark.parametrize("body", [SYSTEMS[0], SYSTEMS[-1]], ids=str)
def test_roles_that_are_right_already_are_not_asked_again(upstream: Upstream, body: Any) -> None:
    upstream.otherwise = scenarios.status(400, body)
    assert turn(upstream, [ChatMessage("user", "Oi")]).failure.code == "invalid_request"
    assert upstream.count == 1


# What is remembered


def test_what_a_model_never_takes_is_remembered_for_it_alone(upstream: Upstream) -> None:
    async def run() -> list[tuple[str, ...]]:
        provider = provider_for(upstream)
        models = ["a", "a", "b"]
        found = [left_out(await collect(provider, TALK, Options(model, **CHATTING))) for model in models]
        await provider.aclose()
        return found

    upstream.otherwise = refusing("temperature", "max_tokens")
    assert asyncio.run(run()) == [("temperature",)] * 3
    assert [request.body["model"] for request in upstream.requests] == ["a"] * 3 + ["a"] + ["b"] * 3


@pytest.mark.parametrize("words", ["temperature must be <= 0.2", "Invalid temperature"])
def test_a_refused_value_is_left_out_of_its_turn_alone(upstream: Upstream, words: str) -> None:
    upstream.script(scenarios.status(400, said(words)))
    upstream.otherwise = scenarios.ok("Pronto")
    assert [left_out(answer) for answer in turns(upstream, [TALK, TALK])] == [("temperature",), ()]
    assert upstream.count == 3


def test_what_did_not_help_teaches_nothing(upstream: Upstream) -> None:
    """Such as a message that looks like a refusal, in an error that quotes it."""
    upstream.script(refusal("temperature"), scenarios.status(400))
    upstream.otherwise = scenarios.ok("Pronto")
    first, second = turns(upstream, [TALK, TALK])
    assert first.failure.code == "invalid_request"
    assert left_out(second) == ()


def test_so_many_models_are_remembered_for_an_hour() -> None:
    now = [0.0]
    forms = LearnedForms(Form(), clock=lambda: now[0])
    other = Form(left_out=("temperature",))
    for number in range(MAX_MODELS + 1):
        forms.learn(f"m{number}", other)
    assert (forms.get("m0"), forms.get("m1")) == (Form(), other)
    now[0] = REMEMBERED + 1
    assert forms.get("m1") == Form()


# Settings


@pytest.mark.parametrize(
    "settings, gone",
    [
        ({"max_tokens_parameter": "none"}, ("max_tokens",)),
        ({"leave_out": ["stream_options", "temperature"]}, ("stream_options", "temperature")),
        ({"leave_out": ["stream"]}, ("stream",)),
        ({"system_role": "user"}, ("system role",)),
        ({"system_role": "developer"}, ()),
        ({"max_tokens_parameter": "max_completion_tokens"}, ()),
    ],
    ids=str,
)
def test_a_setting_says_it_beforehand(upstream: Upstream, settings: dict[str, Any], gone: tuple[str, ...]) -> None:
    upstream.otherwise = scenarios.ok("Pronto")
    assert left_out(turn(upstream, **settings)) == gone
    body = upstream.requests[0].body
    assert upstream.count == 1
    assert not body.keys() & set(gone)
    assert body["messages"][0]["role"] == settings.get("system_role", "system")


def test_nothing_is_named_that_would_not_have_been_sent(upstream: Upstream) -> None:
    provider = provider_for(upstream, leave_out=["temperature", "session_id"], system_role="user")
    upstream.otherwise = scenarios.ok("Pronto")
    assert left_out(ask(provider)) == ()


def test_a_developers_message_becomes_a_systems_first(upstream: Upstream) -> None:
    upstream.script(scenarios.status(400, said("messages[0].role: unknown variant `developer`")), GOOD["stream"])
    assert left_out(turn(upstream, system_role="developer")) == ()
    assert upstream.requests[-1].messages[0]["role"] == "system"


def test_what_may_have_been_billed_is_never_put_right() -> None:
    request = Request(LearnedForms(Form()), "m", TALK, Options("m", temperature=1), {})
    assert not request.repair(ProviderError("x", parameters=("temperature",), may_have_been_billed=True))
    assert request.repair(ProviderError("x", parameters=("temperature",)))
