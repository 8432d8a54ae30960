"""The query parameters of the record's endpoints: they validate values, and describe themselves for the document."""

import re
from datetime import datetime, timedelta
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

from sessions_api.exports.formats import CLOCKS, FORMATS, WITH_CLOCKS
from web.fields import QuerySerializer
from web.moments import EPOCH, utc

A_CURSOR = re.compile(r"([0-9]{1,17})\.([0-9]{1,18})")  # microseconds until the year 5138, and a key
A_MOMENT = "ISO 8601; in UTC where it names no zone, and a date alone is its beginning."


@extend_schema_field({"type": "string"})
class TextParameter(serializers.Field):
    """A text; None if it is absent or empty."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default=None, **kwargs)

    def run_validation(self, text: Any = empty) -> Any:
        return super().run_validation(empty if text == "" else text)

    def to_internal_value(self, text: Any) -> Any:
        return text


@extend_schema_field({"type": "string", "maxLength": 80})
class OwnerParameter(TextParameter):
    """An owner, or * for all of them."""


class LimitParameter(serializers.IntegerField):
    def __init__(self, default: int, most: int) -> None:
        super().__init__(default=default, min_value=1, max_value=most, help_text="How many at the most.")
        self.most = most

    def to_internal_value(self, text: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= self.most:
            raise serializers.ValidationError(_("Use a whole number from 1 to %d.") % self.most)
        return int(text)


@extend_schema_field({"type": "string", "pattern": r"^([0-9]{1,17}\.[0-9]{1,18})?$"})
class CursorParameter(TextParameter):
    """When the last session of a page was last active, and its key."""

    default_error_messages = {"invalid": gettext_lazy("This is not a cursor of ours.")}

    def __init__(self) -> None:
        super().__init__(help_text="Where a page begins: comes with `next`, and means nothing else.")

    def to_internal_value(self, text: Any) -> tuple[datetime, int]:
        found = A_CURSOR.fullmatch(text)
        if not found:
            self.fail("invalid")
        return EPOCH + timedelta(microseconds=int(found[1])), int(found[2])


@extend_schema_field({"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}, {"maxLength": 0}]})
class MomentParameter(TextParameter):
    """A moment in ISO 8601; UTC if it names no zone."""

    default_error_messages = {"invalid": gettext_lazy("Use a date and time in ISO 8601.")}

    def to_internal_value(self, text: Any) -> datetime:
        try:
            moment = parse_datetime(text.replace(" ", "+")) or parse_datetime(f"{text}T00:00:00")
            return utc(moment) if moment else self.fail("invalid")
        except (ValueError, OverflowError):
            return self.fail("invalid")


@extend_schema_field({"type": "string", "pattern": r"^((.*\.)?[0-9]{1,9})?$"})
class PositionParameter(TextParameter):
    """The position of the message with this id."""

    default_error_messages = {"invalid": gettext_lazy("This is not a message's id.")}

    def to_internal_value(self, text: Any) -> int:
        position = text.rpartition(".")[2]
        return int(position) if re.fullmatch(r"[0-9]{1,9}", position) else self.fail("invalid")


class FlagParameter(serializers.BooleanField):
    def to_internal_value(self, text: Any) -> bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise serializers.ValidationError(_("Use true or false."))
        return text.lower() in ("true", "1")


class ChoiceParameter(serializers.ChoiceField):
    def to_internal_value(self, text: Any) -> Any:
        if text not in self.choices and not (text == "" and self.allow_blank):
            raise serializers.ValidationError(_("Use one of: %s.") % ", ".join(self.choices))
        return text


class OwnerQuery(QuerySerializer):
    owner = OwnerParameter(
        help_text="Whose sessions, for keys with the scope admin:read: an owner, or * for all. Yours unless you say "
        "so; of several sessions with one id the one that was last active."
    )


class SessionIdsQuery(QuerySerializer):
    limit = LimitParameter(default=1000, most=1000)
    cursor = CursorParameter()


class SessionsQuery(QuerySerializer):
    limit = LimitParameter(default=20, most=100)
    cursor = CursorParameter()


class FilterQuery(QuerySerializer):
    q = TextParameter(
        help_text="Only sessions with all these words in the title or in one message; the last may be unfinished."
    )
    since = MomentParameter(help_text=f"Only sessions that were active at this moment or later. {A_MOMENT}")
    until = MomentParameter(help_text=f"Only sessions that were last active before this moment. {A_MOMENT}")
    persona_id = TextParameter(help_text="Only sessions of this persona.")


class IncludeQuery(QuerySerializer):
    include = serializers.ChoiceField(
        ["superseded"],
        default=None,
        allow_blank=True,
        help_text="Also the messages that a later turn took the place of.",
        error_messages={"invalid_choice": gettext_lazy("Use “superseded”.")},
    )


class MessagesQuery(QuerySerializer):
    limit = LimitParameter(default=100, most=100)
    q = TextParameter(help_text="Only messages with all these words; the last may be unfinished.")
    around = PositionParameter(
        help_text="The message with this id in the middle of the page. `after` and `before` don't count then."
    )


class RangeQuery(QuerySerializer):
    after = PositionParameter(help_text="Only messages that come after the one with this id.")
    before = PositionParameter(help_text="Only messages that come before the one with this id.")
    order = serializers.ChoiceField(
        ["asc", "desc"],
        default="asc",
        help_text="Oldest first, or newest first.",
        error_messages={"invalid_choice": gettext_lazy("Use asc or desc.")},
    )


class EraseQuery(QuerySerializer):
    erase = FlagParameter(
        default=False,
        help_text="true: the session is deleted before the answer, not only closed. What may stay on disk: "
        "docs/operations.md.",
    )


class ExportQuery(QuerySerializer):
    format = ChoiceParameter(list(FORMATS), default=next(iter(FORMATS)), help_text="What the file is to be.")
    clock = ChoiceParameter(
        CLOCKS,
        default="real",
        help_text=f"By which clock {' and '.join(f'`{name}`' for name in WITH_CLOCKS)} tell what happened.",
    )
    include = ChoiceParameter(
        ["superseded"],
        default=None,
        allow_blank=True,
        help_text="Also the messages that a later turn took the place of.",
    )
