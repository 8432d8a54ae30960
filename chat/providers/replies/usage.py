"""What a provider counted, wherever it says so. Missing counts are estimated and marked."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from chat.providers.base import ChatMessage, Usage, estimate_tokens

MAX_COUNT = 2**31 - 1  # tokens
MAX_COST = 1_000_000  # USD
COST_UNIT = Decimal("1e-12")  # no price is finer
TICK = Decimal("1e-10")  # USD; xAI counts in these
MAX_TICKS = MAX_COST / TICK

# The names of one figure, the usual one first; a pair leads into an object.
Names = tuple[str | tuple[str, str], ...]
PROMPT: Names = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count")
COMPLETION: Names = ("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count")
TOTAL: Names = ("total_tokens", "totalTokenCount")
CACHED: Names = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    "prompt_cache_hit_tokens",  # DeepSeek
    "cached_tokens",  # Moonshot
    "cache_read_input_tokens",
    "cachedContentTokenCount",
)
REASONING: Names = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    "reasoning_tokens",
    "thoughtsTokenCount",
)
COST: Names = ("cost", ("cost", "total_cost"), "estimated_cost", "total_cost")
TIMINGS = {"prompt_n": "prompt_tokens", "predicted_n": "completion_tokens"}  # llama.cpp's names


class Counts:
    """The counts of one reply, from all places and chunks. A zero or null takes nothing back that was counted."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, Any] = {}

    def note(self, chunk: Mapping[str, Any], choice: Any = None) -> None:
        """Take what a chunk counts: beside its choices, inside one (Moonshot), or under a name of the provider's."""
        for part in (chunk, choice, chunk.get("x_groq")):
            if part and isinstance(part, dict) and isinstance(counts := part.get("usage"), dict):
                _merge(self._counts, counts)
        if isinstance(counts := chunk.get("usageMetadata"), dict):
            _merge(self._counts, counts)
        if isinstance(timings := chunk.get("timings"), dict):  # llama.cpp, also where it sends no usage
            for name, usual in TIMINGS.items():
                self._counts.setdefault(usual, timings.get(name))

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

    def _count(self, names: Names) -> int | None:
        usual = _at(self._counts, names[0])
        if usual.__class__ is int and 0 < usual <= MAX_COUNT:
            return int(usual)
        found = None
        for name in names:
            number = count(_at(self._counts, name))
            if number:
                return number
            found = found if number is None else number
        return found

    def _cost(self) -> Decimal | None:
        """USD. With the account's own key at another provider, OpenRouter's `cost` is its fee alone."""
        counts = self._counts
        if "cost" not in counts and (ticks := price(counts.get("cost_in_usd_ticks"), MAX_TICKS)) is not None:
            return price(ticks * TICK)
        cost = next((cost for name in COST if (cost := price(_at(counts, name))) is not None), None)
        if counts.get("is_byok") is not True:
            return cost
        upstream = price(_at(counts, ("cost_details", "upstream_inference_cost")))
        return None if upstream is None else price((cost or Decimal(0)) + upstream)


def count(value: Any) -> int | None:
    """A number of tokens; `None` where it is none."""
    if value is None:
        return None
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


def _at(counts: Mapping[str, Any], name: str | tuple[str, str]) -> Any:
    if name.__class__ is str:
        return counts.get(name)
    value = counts.get(name[0])
    return value.get(name[1]) if isinstance(value, dict) else None


def _merge(known: dict[str, Any], news: Mapping[str, Any]) -> None:
    if not known:
        known.update(news)
        return
    for name, value in news.items():
        if isinstance(value, dict) and isinstance(known.get(name), dict):
            _merge(known[name], value)
        elif value or name not in known:
            known[name] = value
