"""What a provider counted, wherever it says so. Missing counts are estimated and marked."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from chat.providers.base import ChatMessage, Usage, estimate_tokens

MAX_COUNT = 2**31 - 1  # tokens
MAX_COST = 1_000_000  # USD
COST_UNIT = Decimal("1e-12")  # no price is finer
TICK = Decimal("1e-10")  # USD; xAI counts in these

# The names of one figure, the usual one first; a dot leads into an object.
PROMPT = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count", "prompt_n")
COMPLETION = ("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count", "predicted_n")
TOTAL = ("total_tokens", "totalTokenCount")
CACHED = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",  # DeepSeek
    "cached_tokens",  # Moonshot
    "cache_read_input_tokens",
    "cachedContentTokenCount",
)
REASONING = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "reasoning_tokens",
    "thoughtsTokenCount",
)
COST = ("cost", "cost.total_cost", "estimated_cost", "total_cost")


class Counts:
    """The counts of one reply, from all places and chunks. A zero or null takes nothing back that was counted."""

    __slots__ = ("_counts", "_timings")

    def __init__(self) -> None:
        self._counts: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}

    def note(self, chunk: Mapping[str, Any], choice: Any = None) -> None:
        """Take what a chunk counts: beside its choices, inside one (Moonshot), or under a name of the provider's."""
        groq = chunk.get("x_groq")
        for counts in (
            chunk.get("usage"),
            choice.get("usage") if isinstance(choice, dict) else None,
            groq.get("usage") if isinstance(groq, dict) else None,
            chunk.get("usageMetadata"),
        ):
            if isinstance(counts, dict):
                _merge(self._counts, counts)
        if isinstance(timings := chunk.get("timings"), dict):  # llama.cpp, also where it sends no usage
            _merge(self._timings, timings)

    def __bool__(self) -> bool:
        """Whether the provider counted what the model wrote."""
        return bool(self._count(COMPLETION))

    @property
    def any(self) -> bool:
        """Whether the provider counted anything."""
        return any(self._count(names) for names in (PROMPT, COMPLETION, TOTAL)) or self._cost() is not None

    def usage(self, messages: Sequence[ChatMessage], characters: int) -> Usage:
        """Estimates counts that are missing, invalid, or zero although there was text of so many `characters`."""
        prompt, completion, reasoning = self._count(PROMPT), self._written(), self._count(REASONING) or 0
        estimated = not prompt or completion is None or (completion == 0 and characters > 0)
        if not prompt:
            prompt = sum(estimate_tokens(message.content) for message in messages)
        if not completion:
            completion = estimate_tokens(" " * characters)
        return Usage(prompt, completion, self._count(CACHED) or 0, reasoning, self._cost(), estimated)

    def _written(self) -> int | None:
        """The completion, with thinking that is counted beside it: xAI's and Gemini's total tells."""
        prompt, completion = self._count(PROMPT), self._count(COMPLETION)
        total, reasoning = self._count(TOTAL), self._count(REASONING) or 0
        if completion is None and not reasoning and not (total and prompt):
            return None
        written = completion or 0
        if reasoning > written:
            written += reasoning
        return max(written, total - prompt) if total and prompt else written

    def _count(self, names: tuple[str, ...]) -> int | None:
        counts = (count(_at(self._counts, name)) for name in names)
        found = [number for number in counts if number is not None]
        return max(found) if found else count(next((self._timings[n] for n in names if n in self._timings), None))

    def _cost(self) -> Decimal | None:
        """USD. With the account's own key at another provider, OpenRouter's `cost` is its fee alone."""
        counts = self._counts
        if (ticks := price(counts.get("cost_in_usd_ticks"), MAX_COST / TICK)) is not None and "cost" not in counts:
            return price(ticks * TICK)
        cost = next((cost for name in COST if (cost := price(_at(counts, name))) is not None), None)
        if counts.get("is_byok") is not True:
            return cost
        upstream = price(_at(counts, "cost_details.upstream_inference_cost"))
        return None if upstream is None else price((cost or Decimal(0)) + upstream)


def count(value: Any) -> int | None:
    """A number of tokens; `None` where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= MAX_COUNT:
        return None
    return int(value) if value == int(value) else None


def price(value: Any, most: Decimal | int = MAX_COST) -> Decimal | None:
    """An amount from a number or a string; `None` where it is no valid one."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal) or len(str(value)) > 64:
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    if not cost.is_finite() or not 0 <= cost <= most:
        return None
    return cost if cost == (rounded := cost.quantize(COST_UNIT)) else rounded


def _at(counts: Mapping[str, Any], name: str) -> Any:
    outer, _, inner = name.partition(".")
    value = counts.get(outer)
    if not inner:
        return value
    return value.get(inner) if isinstance(value, dict) else None


def _merge(known: dict[str, Any], news: Mapping[str, Any]) -> None:
    for name, value in news.items():
        if isinstance(value, dict) and isinstance(known.get(name), dict):
            _merge(known[name], value)
        elif value or name not in known:
            known[name] = value
