"""What starts a turn, and what it is answered with."""

from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from web.fields import Flag, Metadata, Number, SessionId, Text, Whole


def not_only_white_space(text: str) -> None:
    if text.isspace():
        raise serializers.ValidationError(_("This field may not be blank."))


class QuestionSerializer(serializers.Serializer[Any]):
    """What every request that starts a turn has."""

    message = Text(max_length=settings.MAX_MESSAGE_CHARS, validators=[not_only_white_space])
    session_id = SessionId()
    stream = Flag(required=False, allow_null=True)
    after_turn = Text(required=False, allow_null=True, max_length=64)
    on_busy = serializers.ChoiceField(
        ["wait", "reject"],
        required=False,
        allow_null=True,
        error_messages={"invalid_choice": _("Use “wait” or “reject”.")},  # DRF would repeat the value, however long
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """DRF's own way asks every field, each time; most are absent, and this runs for every turn."""
        if not isinstance(data, dict) or "message" not in data:
            return dict(super().to_internal_value(data))
        values: dict[str, Any] = {}
        problems: dict[str, Any] = {}
        for name, field in self.fields.items():
            if name in data:
                try:
                    values[name] = field.run_validation(data[name])
                except serializers.ValidationError as problem:
                    problems[name] = problem.detail
        if problems:
            raise serializers.ValidationError(problems)
        return values


class MessageSerializer(QuestionSerializer):
    """POST /api/message."""

    persona_id = Text(required=False, allow_null=True, allow_blank=True, max_length=200)
    timing_metadata = Metadata(required=False, allow_null=True)


class ChatSerializer(QuestionSerializer):
    """POST /chat."""

    model = Text(required=False, allow_null=True, max_length=200)
    temperature = Number(required=False, allow_null=True, min_value=0, max_value=2)
    max_tokens = Whole(required=False, allow_null=True, min_value=1, max_value=10_000_000)
    system_prompt = Text(required=False, allow_null=True, allow_blank=True, max_length=settings.MAX_MESSAGE_CHARS)
