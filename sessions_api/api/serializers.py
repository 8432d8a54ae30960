"""Sessions, messages and feedback as the API takes, answers and documents them."""

from datetime import UTC
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from access.schema import ErrorSerializer
from sessions_api.api.usage import stored_error, usage_of
from sessions_api.models import Feedback, Message, Session
from web.fields import MAX_METADATA_BYTES, Metadata, SessionId, Text
from web.openapi import Count

MAX_COMMENT_CHARS = 4000
ROLES = Message.Role.values
TURN_STATUSES = Message.Status.values
RATINGS = Feedback.Rating.values


class Moment(serializers.DateTimeField):
    """ISO 8601 in UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)


class TextOrNull(serializers.CharField):
    """Null where it is empty."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)

    def to_representation(self, value: str) -> str | None:  # type: ignore[override]
        return value or None


class StoredMetadata(serializers.DictField):
    def __init__(self) -> None:
        super().__init__(help_text=f"The client's own data: at most {MAX_METADATA_BYTES // 1024} KiB of JSON.")


class TotalsSerializer(serializers.Serializer[Session]):
    """What all turns of a session took."""

    prompt_tokens = Count()
    completion_tokens = Count()
    total_tokens = Count()
    cost = serializers.FloatField(min_value=0, help_text="USD, as far as the provider named prices.")


class MatchSerializer(serializers.Serializer[Message]):
    """The message of a session that a search has found."""

    message_id = serializers.CharField(source="public_id", help_text="For the parameter around.")
    role = serializers.ChoiceField(ROLES)


@extend_schema_field(MatchSerializer(allow_null=True, required=False))
class MatchInSession(serializers.Field):
    def to_representation(self, session: Session) -> dict[str, Any] | None:
        message = (self.context.get("matches") or {}).get(session.pk)
        return None if message is None else MatchSerializer(message).data


class SessionSerializer(serializers.Serializer[Session]):
    """A conversation without its messages."""

    session_id = serializers.CharField()
    title = serializers.CharField(help_text="The beginning of the first message, until somebody gives it another one.")
    model = serializers.CharField(help_text="The model that the session remembers; empty: the server's default.")
    system_prompt = serializers.CharField(help_text="Empty where it has none.")
    persona_id = serializers.CharField(help_text="Empty where it has none.")
    created_at = Moment()
    last_activity_at = Moment()
    message_count = Count(help_text="Questions and replies.")
    usage = TotalsSerializer(source="*")
    metadata = StoredMetadata()
    forked_from = serializers.CharField(
        help_text="Where it began as a copy: the last turn that was copied. Empty where it did not."
    )
    owner = serializers.CharField(required=False, help_text="Whose it is, where `owner` was asked for.")
    match = MatchInSession(
        source="*",
        required=False,
        help_text="With `q`: the newest message that has all its words; null where the title alone has them.",
    )

    def to_representation(self, session: Session) -> dict[str, Any]:
        values = super().to_representation(session)
        if not self.context.get("with_owner"):
            del values["owner"]
        if self.context.get("matches") is None:
            del values["match"]
        return values


class SessionPatchSerializer(serializers.Serializer[Any]):
    """What a client may change of a session; metadata is replaced as a whole."""

    title = Text(required=False, allow_null=True, allow_blank=True, max_length=200)
    system_prompt = Text(required=False, allow_null=True, allow_blank=True, max_length=settings.MAX_MESSAGE_CHARS)
    metadata = Metadata(required=False, allow_null=True)


class UsageSerializer(serializers.Serializer[Any]):
    """What a reply took."""

    prompt_tokens = Count()
    completion_tokens = Count()
    total_tokens = Count()
    cost = serializers.FloatField(allow_null=True, min_value=0, help_text="USD; null where the provider names none.")
    cached_tokens = Count(help_text="Those of prompt_tokens that came from the provider's cache.")
    reasoning_tokens = Count(help_text="Those of completion_tokens that were spent on reasoning.")
    estimated = serializers.BooleanField(
        required=False, help_text="true where the provider did not count and the figures are an estimate."
    )


class FeedbackSerializer(serializers.Serializer[Feedback]):
    """What somebody thinks of a reply."""

    rating = serializers.ChoiceField(RATINGS)
    comment = serializers.CharField(help_text="Empty where nothing was said.")
    created_at = Moment()


# Values of a message that are none of its columns


@extend_schema_field(UsageSerializer(allow_null=True))
class UsageOfMessage(serializers.Field):
    def to_representation(self, message: Message) -> dict[str, Any] | None:
        return None if message.prompt_tokens is None else usage_of(message)


@extend_schema_field(ErrorSerializer(allow_null=True))
class ErrorOfMessage(serializers.Field):
    def to_representation(self, message: Message) -> dict[str, Any] | None:
        return stored_error(message)


@extend_schema_field(FeedbackSerializer(allow_null=True))
class FeedbackOnMessage(serializers.Field):
    def to_representation(self, message: Message) -> dict[str, Any] | None:
        feedback = self.context["feedback"].get(message.position)
        return None if feedback is None else FeedbackSerializer(feedback).data


class MessageSerializer(serializers.Serializer[Any]):
    """One message of a conversation."""

    # The context's `feedback` is what was said of the messages, by position.
    id = serializers.CharField(source="public_id", help_text="For the parameters after and before.")
    turn_id = serializers.CharField(help_text="Shared by a question and its reply.")
    role = serializers.ChoiceField(ROLES)
    content = serializers.CharField()
    status = serializers.ChoiceField(TURN_STATUSES)
    model = TextOrNull()
    usage = UsageOfMessage(source="*")
    latency_ms = Count(allow_null=True, help_text="From the question to the end of the reply.")
    first_token_ms = Count(allow_null=True, help_text="From the question to the reply's first text.")
    finish_reason = TextOrNull()
    error = ErrorOfMessage(source="*")
    metadata = StoredMetadata()
    created_at = Moment()
    completed_at = Moment(allow_null=True)
    superseded_at = Moment(
        allow_null=True, help_text="When a later turn took its place; shown with include=superseded alone."
    )
    feedback = FeedbackOnMessage(source="*")


class MessageFeedbackSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="The message's.")
    feedback = FeedbackSerializer(allow_null=True, help_text="Null: there is none any more.")


class OpinionSerializer(serializers.Serializer[Any]):
    """POST /messages/{id}/feedback. A rating of null takes the feedback back."""

    rating = serializers.ChoiceField(
        RATINGS,
        allow_null=True,
        error_messages={"invalid_choice": _("Use “up”, “down” or null.")},  # DRF would repeat the value, however long
    )
    comment = Text(required=False, allow_null=True, allow_blank=True, max_length=MAX_COMMENT_CHARS)


class ForkSerializer(serializers.Serializer[Any]):
    """POST /sessions/{id}/fork."""

    after_turn = Text(required=False, allow_null=True, max_length=64)
    session_id = SessionId()


# Answers that put these together


class SessionWithMessagesSerializer(SessionSerializer):
    """A conversation with its newest messages."""

    messages = MessageSerializer(many=True, help_text="The newest ones, oldest first.")


class Next(serializers.URLField):
    """Where a list goes on."""

    def __init__(self) -> None:
        super().__init__(allow_null=True, help_text="The next page, with the same filters; null on the last one.")


@extend_schema_serializer(many=False)
class SessionPageSerializer(serializers.Serializer[Any]):
    data = SessionSerializer(many=True)  # type: ignore[assignment] # DRF takes it away: `data` stays the property
    next = Next()


class MessagePageSerializer(serializers.Serializer[Any]):
    data = MessageSerializer(many=True)  # type: ignore[assignment] # as above
    next = Next()
    previous = serializers.URLField(
        required=False,
        allow_null=True,
        help_text="With `around`: what comes before the page, the nearest first; null where nothing does.",
    )


@extend_schema_serializer(many=False)
class SessionIdsSerializer(serializers.Serializer[Any]):
    sessions = serializers.ListField(child=serializers.CharField(), help_text="Last active first.")
    count = Count(help_text="All of the caller's sessions, those of other pages included.")
    next = Next()


class RemovedSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(["success"])
    message = serializers.CharField()
