"""What goes upstream of any history, tested with generated ones that are the same in every run."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.engine.asking.catalogue import ModelLimits
from chat.engine.asking.context import (
    LEARNED_SECONDS,
    MAX_LEARNED,
    VISIBLE,
    Fitted,
    LearnedContexts,
    fit,
    fit_less,
    halved,
    is_blank,
)
from chat.providers.base import ProviderError
from sessions_api.store.messages import PastMessage, token_bound
from testing.picky import fault_in

tried = settings(max_examples=100, derandomize=True, database=None, deadline=None)

contents = st.text(max_size=60)
statuses = st.sampled_from(["completed", "failed", "cancelled", "interrupted"])
reasons = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "SAFETY", "error", ""])
codes = st.sampled_from(["", "", "provider_error", "content_moderated"])
roles = st.sampled_from(["user", "assistant", "system", "tool"])
blanks = st.sampled_from(["", "\n\n", "\u200b\ufeff\xa0", "<think>Hm</think>\n", "<think>cut"])
limits = st.builds(ModelLimits, st.integers(1, 300), st.integers(1, 300), st.booleans())


@st.composite
def histories(draw: st.DrawFn) -> list[PastMessage]:
    """Turns as the store reads them; the first one's question may not have been read."""
    past = []
    for number in range(draw(st.integers(0, 6))):
        past.append(PastMessage(f"t{number}", "user", draw(contents), "completed"))
        reply = draw(contents | blanks)
        past.append(PastMessage(f"t{number}", "assistant", reply, draw(statuses), draw(reasons), draw(codes)))
    return past[draw(st.integers(0, 1)) :]


# As files of another origin bring them.
foreign = st.lists(st.builds(PastMessage, contents, roles, contents | blanks, statuses, reasons, codes), max_size=12)


@tried
@given(histories(), contents, contents, limits, st.integers(1, 300))
def test_the_newest_whole_turns_that_fit_are_sent(
    history: list[PastMessage], prompt: str, question: str, limits: ModelLimits, reply: int
) -> None:
    fitted = fit(history, prompt, question, limits, reply)
    system = [message for message in fitted.messages if message.role == "system"]
    past = fitted.messages[len(system) : -1]
    assert [message.content for message in system] in ([], [prompt])
    assert (fitted.messages[-1].role, fitted.messages[-1].content) == ("user", question)
    whole = [pair for pair in pairwise(history) if is_sendable(*pair)]
    newest = [part for pair in whole for part in pair][2 * len(whole) - len(past) :]
    assert [(message.role, message.content) for message in past] == [(part.role, part.content) for part in newest]
    room = limits.context - min(reply, limits.context // 2) - sum(map(token_bound, (prompt, question)))
    assert_as_many_as_fit(whole, len(past) // 2, room)
    assert len(past) + fitted.omitted <= len(history)
    assert fitted.past == sum(token_bound(message.content) for message in past)
    assert 1 <= fitted.max_tokens <= reply
    assert not past or fitted.past + fitted.fixed + fitted.max_tokens <= limits.context


def is_sendable(question: PastMessage, reply: PastMessage) -> bool:
    moderated = reply.error_code == "content_moderated" and reply.finish_reason != "stop"
    filtered = reply.finish_reason in ("content_filter", "SAFETY") or moderated
    seen = [is_seen(question.content), is_seen(reply.content) and not is_blank(reply.content)]
    return question.turn_id == reply.turn_id and all(seen) and not filtered


def is_seen(text: str) -> bool:
    return VISIBLE.search(text) is not None


def assert_as_many_as_fit(turns: list[tuple[PastMessage, PastMessage]], taken: int, room: int) -> None:
    costs = [sum(token_bound(part.content) for part in turn) for turn in reversed(turns)]
    assert taken == 0 or sum(costs[:taken]) <= room
    assert taken == len(costs) or sum(costs[: taken + 1]) > room


@tried
@given(foreign, contents.filter(is_seen), limits, st.integers(1, 300))
def test_no_history_is_sent_that_a_strict_provider_refuses(
    history: list[PastMessage], question: str, limits: ModelLimits, reply: int
) -> None:
    fitted = fit(history, "", question, limits, reply)
    assert fault_in([message._asdict() for message in fitted.messages]) == ""


@tried
@given(histories(), contents, limits, st.integers(1, 300))
def test_after_a_refusal_less_than_half_of_the_history_is_sent(
    history: list[PastMessage], question: str, limits: ModelLimits, reply: int
) -> None:
    first = fit(history, "", question, limits, reply)
    second, context = fit_less(first, history, "", question), halved(first).context
    assert second.past <= first.past // 2
    assert second.max_tokens <= first.max_tokens
    assert second.past + second.fixed + second.max_tokens <= context <= first.past + first.fixed + first.max_tokens
    assert second.omitted - first.omitted == len(first.messages) - len(second.messages)


LISTED = ModelLimits(8000, 1000, is_listed=True)
SENT = Fitted([], max_tokens=1000, omitted=0, past=2000, fixed=100)
LESS = ModelLimits(2100, 1000, is_listed=False)
OVERFLOW = ProviderError("context_length_exceeded", "HTTP 400")


def test_what_was_learned_of_a_session_is_forgotten_in_time_and_concerns_no_other() -> None:
    now = [0.0]
    learned = LearnedContexts(clock=lambda: now[0])
    assert learned.refused((1, "m"), OVERFLOW, SENT)
    assert learned.limit((1, "m"), LISTED) == LESS
    assert [learned.limit(other, LISTED) for other in ((2, "m"), (1, "n"))] == [LISTED, LISTED]
    assert learned.limit((1, "m"), ModelLimits(400, 400, is_listed=True)).context == 400
    now[0] = LEARNED_SECONDS
    assert learned.limit((1, "m"), LISTED) == LISTED


def test_so_many_sessions_are_remembered_and_no_more() -> None:
    learned = LearnedContexts()
    for session in range(MAX_LEARNED + 2):
        learned.refused((session, "m"), OVERFLOW, SENT)
        learned.refused((2, "m"), OVERFLOW, SENT)  # the newest is not forgotten
    remembered = [learned.limit((session, "m"), LISTED) != LISTED for session in (0, 1, 2, 3, MAX_LEARNED + 1)]
    assert remembered == [False, False, True, True, True]


REFUSALS = [
    (ProviderError("invalid_request", "HTTP 400"), 2),
    (ProviderError("content_moderated", "HTTP 403"), 2),
    (ProviderError("permission_denied", "HTTP 403"), 2),
    (ProviderError("provider_error", "HTTP 403 with an HTML page"), 2),
    (ProviderError("invalid_request", "HTTP 413"), 1),
    (ProviderError("provider_error", "HTTP 413 with an HTML page"), 1),
    (ProviderError("provider_error", "HTTP 500", retryable=True, may_have_been_billed=True), 0),
    (ProviderError("content_moderated", "in mid-stream", may_have_been_billed=True), 0),
    (ProviderError("provider_rate_limited", "HTTP 429", retryable=True), 0),
    (ProviderError("provider_auth_failed", "HTTP 401"), 0),
    (ProviderError("provider_payment_required", "HTTP 402"), 0),
    (ProviderError("unsupported_model", "HTTP 404"), 0),
]


@pytest.mark.parametrize(("failure", "after"), REFUSALS, ids=lambda value: str(value))
def test_a_refusal_in_a_row_costs_history_where_it_may_be_the_reason(failure: ProviderError, after: int) -> None:
    learned, key = LearnedContexts(), (1, "m")
    for number in range(1, 4):
        assert not learned.refused(key, failure, SENT)
        assert (learned.limit(key, LISTED) == LESS) is (0 < after <= number)


def test_an_answer_between_two_refusals_breaks_the_row() -> None:
    learned, key = LearnedContexts(), (1, "m")
    for _ in range(3):
        learned.refused(key, ProviderError("invalid_request"), SENT)
        learned.accepted(key, "Oi", "Olá")
    learned.refused(key, ProviderError("invalid_request"), SENT._replace(past=0))
    assert learned.limit(key, LISTED) == LISTED


def test_what_was_left_out_stays_out_and_what_is_said_later_comes_in() -> None:
    now = [0.0]
    learned, key = LearnedContexts(clock=lambda: now[0]), (1, "m")
    for _ in range(2):
        assert learned.most_past(key) is None
        learned.refused(key, ProviderError("invalid_request"), SENT)
    assert learned.most_past(key) == SENT.past // 2
    learned.accepted(key, "Oi", "Olá")
    assert learned.most_past(key) == SENT.past // 2 + token_bound("Oi") + token_bound("Olá")
    now[0] = LEARNED_SECONDS
    assert learned.most_past(key) is None


THOUGHTS = [
    ("<think>Hm</think>", True), ("<think>Hm</think>\n<thinking>Hm</thinking>\n", True), ("\n<THINK>Hm", True),
    ("<think></think>" * 5000, True), ("<think>Hm</think>\n\nSim", False), ("Sim <think>Hm</think>", False),
    ("<thin>Hm", False), ("", True), ("\u200b \xa0\ufeff\u2060", True), ("\u200bSim", False), (".", False),
    ("🙂", False), ("\x00\x1b\t", True), ("\U000e0041", True), ("\ufffd", False), ("́", False),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "blank"), THOUGHTS, ids=range(len(THOUGHTS)))
def test_a_reply_without_anything_to_read_is_blank(reply: str, blank: bool) -> None:
    assert is_blank(reply) is blank
