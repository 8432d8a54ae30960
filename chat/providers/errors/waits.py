"""How long a provider asks to wait: in headers, in the error, or in its words."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .bodies import Heard

MAX_WAIT = 24 * 3600.0  # seconds
MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms", "x-retry-after-ms")
DIRECT = ("retry-after", "x-retry-after", "x-ratelimit-retry-after")
UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+")
PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
IN_WORDS = re.compile(
    r"(?:try again|retry|retrying|wait|available|resets?)(?: again)?(?: (?:in|after|for|about|at least))*[ :]+"
    r"((?:\d+(?:\.\d+)? ?(?:ms|milli|[dhms])[a-z]*[ ,]*(?:and )?)+)",
    re.IGNORECASE,
)
IN_LINE = re.compile(r"\b(remaining|reset|r|t)=(\d+)")
WORDS_PART = re.compile(r"(\d+(?:\.\d+)?) ?(ms|[dhms])")


def wait_of(headers: Mapping[str, str], heard: Heard, *, is_limit: bool) -> float | None:
    """Seconds to wait; `None` where nothing tells. `is_limit`: it is a 429, so a limit's reset is what counts."""
    for source in (headers, heard.headers):
        for name in MILLISECONDS:
            if (seconds := _scaled(source.get(name), 0.001)) is not None:
                return seconds
        for name in DIRECT:
            if (seconds := parse_retry_after(source.get(name))) is not None:
                return seconds
    for name, value in heard.waits:
        seconds = _scaled(value, 0.001) if name.endswith("_ms") else parse_retry_after(value)
        if seconds is not None:
            return seconds
    in_words = _wait_in_words(heard.words)
    return _reset(_limits({**heard.headers, **headers}), is_limit=is_limit) if in_words is None else in_words


def parse_retry_after(value: object) -> float | None:
    """The seconds to wait, from a number, a duration (1m30.5s), an HTTP date or a time; `None` where it is neither."""
    text = str(value).strip()
    parsers: tuple[Callable[[str], float | None], ...] = (float, _duration, _date, _iso_date)
    for parse in parsers:
        try:
            seconds = parse(text)
        except (ValueError, OverflowError, TypeError):
            continue
        if seconds is not None:
            return min(seconds, MAX_WAIT) if seconds >= 0 else None
    return None


def _duration(text: str) -> float | None:
    if not DURATION.fullmatch(text):
        return None
    return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))


def _date(text: str) -> float:
    return _until(parsedate_to_datetime(text))


def _iso_date(text: str) -> float:
    return _until(datetime.fromisoformat(text))


def _until(moment: datetime) -> float:
    if moment.tzinfo is None:  # "-0000": a time in UTC, says RFC 5322
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _scaled(value: object, unit: float) -> float | None:
    try:
        seconds = float(str(value)) * unit
    except ValueError:
        return None
    return min(seconds, MAX_WAIT) if seconds >= 0 else None


def _wait_in_words(words: str) -> float | None:
    """“Please try again in 1m30.5s”, “retry after 6 seconds”."""
    found = IN_WORDS.search(words)
    if found is None:
        return None
    parts = WORDS_PART.findall(found[1].lower().replace("milli", "ms"))
    return min(sum(float(number) * UNITS[unit] for number, unit in parts), MAX_WAIT)


def _limits(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers about limits, under one spelling of their names. `RateLimit` alone has all in one line."""
    named = {name.lower().replace("rate-limit", "ratelimit"): value for name, value in headers.items()}
    found = {name: value for name, value in named.items() if "ratelimit" in name}
    in_line = dict(IN_LINE.findall(found.pop("ratelimit", "")))
    for short, name in (("remaining", "remaining"), ("r", "remaining"), ("reset", "reset"), ("t", "reset")):
        if short in in_line:
            found[f"ratelimit-{name}"] = in_line[short]
    return found


def _reset(limits: Mapping[str, str], *, is_limit: bool) -> float | None:
    """When the exhausted limit is renewed: the last of several. With a 429 that names no rest, the first of all."""
    exhausted, others = [], []
    for name, value in limits.items():
        if "reset" not in name:
            continue
        seconds = _moment(value)
        if seconds is None:
            continue
        rest = limits.get(name.replace("reset", "remaining"))
        if rest is None:
            others.append(seconds)
        elif rest.strip() in ("0", "0.0"):
            exhausted.append(seconds)
    if exhausted:
        return max(exhausted)
    return min(others, default=None) if is_limit else None


def _moment(value: str) -> float | None:
    """A number may be seconds, or since 1970 in seconds or milliseconds."""
    try:
        number = float(value)
    except ValueError:
        return parse_retry_after(value)
    if not math.isfinite(number) or number < 0:
        return None
    if number > 1e9:
        number = max(0.0, number / (1000 if number > 1e12 else 1) - datetime.now(UTC).timestamp())
    return min(number, MAX_WAIT)
