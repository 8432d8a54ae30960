"""Formats numbers for the console, in the reader's language."""

from datetime import timedelta
from decimal import Decimal

from django.utils.formats import number_format
from django.utils.translation import gettext as _

NONE = "–"


def whole(number: int) -> str:
    return number_format(number, decimal_pos=0, use_l10n=True, force_grouping=True)


def money(amount: Decimal) -> str:
    """US dollars to the millionth: a single reply can cost less than a cent."""
    return number_format(amount, decimal_pos=6 if amount else 2, use_l10n=True, force_grouping=True)


def dollars(amount: Decimal) -> str:
    """With four decimals below ten dollars, where a cent is much."""
    return "US$ " + number_format(amount, decimal_pos=2 if amount == 0 or amount >= 10 else 4, force_grouping=True)


def percent(share: float | None) -> str:
    return NONE if share is None else f"{number_format(share, decimal_pos=1, use_l10n=True)}%"


def duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return NONE
    if milliseconds < 1000:
        return f"{round(milliseconds)} ms"
    return f"{number_format(milliseconds / 1000, decimal_pos=1, use_l10n=True, force_grouping=True)} s"


def durations(both: tuple[float | None, float | None]) -> str:
    """The median and the 95th percentile."""
    return " / ".join(map(duration, both)) if both != (None, None) else NONE


def age(time: timedelta) -> str:
    seconds = max(0, int(time.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    return (
        f"{seconds // 60} min {seconds % 60} s" if seconds < 3600 else f"{seconds // 3600} h {seconds // 60 % 60} min"
    )


def size(octets: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if octets < 1024 or unit == "GiB":
            break
        octets /= 1024
    return f"{number_format(octets, decimal_pos=0 if unit == 'bytes' else 1, force_grouping=True)} {unit}"


def compact(number: float) -> str:
    """For the axes of charts, which have little room."""
    for bound, unit in ((10**9, _("bn")), (10**6, _("M")), (10**3, _("k"))):
        if number >= bound:
            return f"{short(number / bound)} {unit}"
    return short(number)


def short(number: float) -> str:
    return number_format(f"{number:.3g}" if number < 1000 else round(number), use_l10n=True)
