"""The bodies and answers of the endpoints that talk. Bodies are validated; answers are only described."""

import re
from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers
from rest_framework.fields import empty

from access.schema import ErrorSerializer
from sessions_api.api.serializers import TURN_STATUSES, UsageSerializer
from web.fields import Flag, Items, Metadata, Number, QuerySerializer, SessionId, Text, Whole
from web.openapi import Count

NOT_ONLY_WHITE_SPACE = RegexValidator(r"\S", _("This field may not be blank."))
MAX_MODEL_CHARS = 200
MAX_OFFSET = 999_999_999  # characters


class QuestionSerializer(serializers.Serializer[Any]):
    """What every request that starts a turn has."""

    message = Text(max_length=settings.MAX_MESSAGE_CHARS, validators=[NOT_ONLY_WHITE_SPACE])
    session_id = SessionId(
        help_text="The session to go on with; an unknown id starts one. Null or empty: the server makes a new id."
    )
    stream = Flag(required=False, allow_null=True)
    after_turn = Text(
        required=False,
        allow_null=True,
        max_length=64,
        help_text="The turn that this one follows; null: none, it is the conversation's first. What came after that is "
        "superseded: out of the history, and kept in the record. Left out: the conversation goes on at its end.",
    )
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


@extend_schema_serializer(component_name="Message")
class MessageRequestSerializer(QuestionSerializer):
    """POST /api/message."""

    persona_id = Text(required=False, allow_null=True, allow_blank=True, max_length=200)
    timing_metadata = Metadata(required=False, allow_null=True)


@extend_schema_serializer(component_name="Chat")
class ChatRequestSerializer(QuestionSerializer):
    """POST /chat."""

    model = Text(required=False, allow_null=True, max_length=MAX_MODEL_CHARS)
    fallback_models = Items(
        child=Text(max_length=MAX_MODEL_CHARS),
        required=False,
        allow_null=True,
        max_length=settings.MAX_FALLBACK_MODELS,
        help_text="Models to ask, in this order, where the model does not accept the request. Left out: those of the "
        "server's settings; empty: none. The session does not remember them.",
    )
    temperature = Number(required=False, allow_null=True, min_value=0, max_value=2)
    max_tokens = Whole(required=False, allow_null=True, min_value=1, max_value=10_000_000)
    system_prompt = Text(required=False, allow_null=True, allow_blank=True, max_length=settings.MAX_MESSAGE_CHARS)


class Offset(serializers.IntegerField):
    """The id of an event: the number of characters so far. None if it is absent or empty."""

    def __init__(self, help_text: str = "") -> None:
        super().__init__(default=None, min_value=0, max_value=MAX_OFFSET, help_text=help_text)

    def run_validation(self, text: Any = empty) -> Any:
        return super().run_validation(empty if text == "" else text)

    def to_internal_value(self, text: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise serializers.ValidationError(_("Use the id of an event, a whole number."))
        return int(text)


class EventsQuery(QuerySerializer):
    after = Offset("The same in the address, for clients that can't send the header.")


# Answers are made in answers.py: DRF would take its time in each turn.


class FallbackSerializer(serializers.Serializer[Any]):
    model = serializers.CharField(help_text="A model that did not accept the request.")
    code = serializers.CharField(help_text="The code of its error.")


class NotesSerializer(serializers.Serializer[Any]):
    """How the reply came about, where that was not the usual way."""

    parameters_left_out = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Parameters that the model refused, so that it was asked without them.",
    )
    fallbacks = FallbackSerializer(
        many=True, required=False, help_text="Models that were asked before and did not accept the request, in order."
    )


class MessageAnswerSerializer(NotesSerializer):
    response = serializers.CharField(help_text="The reply.")
    session_id = serializers.CharField(help_text="Send it with the next message to go on with the conversation.")
    turn_id = serializers.CharField()


class ChatAnswerSerializer(NotesSerializer):
    response = serializers.CharField(help_text="The reply.")
    model_used = serializers.CharField(help_text="The model that wrote it, as the provider says.")
    session_id = serializers.CharField(help_text="Send it with the next message to go on with the conversation.")
    tokens_used = Count(help_text="usage.total_tokens.")
    timestamp = serializers.DateTimeField(help_text="When the reply was complete, in UTC.")
    turn_id = serializers.CharField()
    finish_reason = serializers.CharField(
        allow_null=True, help_text="Why the model stopped: stop, length, content_filter, …"
    )
    usage = UsageSerializer()


class TurnSerializer(serializers.Serializer[Any]):
    """A question and its reply, while it is written and after."""

    turn_id = serializers.CharField()
    session_id = serializers.CharField()
    status = serializers.ChoiceField(TURN_STATUSES)
    text = serializers.CharField(help_text="The reply as far as it has come.")
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    answer = ChatAnswerSerializer(allow_null=True, help_text="Once the status is completed.")
    error = ErrorSerializer(allow_null=True, help_text="Where the turn failed or was interrupted.")


class ModelSerializer(serializers.Serializer[Any]):
    """A model as the provider describes it, with whatever else it says."""

    id = serializers.CharField(help_text="What to send as `model`.")
    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    context_length = Count(required=False, allow_null=True, help_text="Tokens.")
    pricing = serializers.DictField(required=False, help_text="USD per token, as text.")


@extend_schema_serializer(many=False)
class ModelListSerializer(serializers.Serializer[Any]):
    data = ModelSerializer(many=True)  # type: ignore[assignment] # DRF takes it away: `data` stays the property
