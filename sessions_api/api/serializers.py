"""Sessions and messages in the words of the wire contract."""

from datetime import UTC
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from sessions_api.api.usage import stored_error, usage_of
from sessions_api.models import Feedback, Message, Session
from web.fields import Metadata, SessionId, Text

MAX_COMMENT_CHARS = 4000


class Moment(serializers.DateTimeField):
    """ISO 8601 in UTC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)


class TotalsSerializer(serializers.Serializer[Any]):
    """Tokens and cost (USD) of all turns."""

    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    cost = serializers.FloatField()


class SessionSerializer(serializers.ModelSerializer[Session]):
    """A conversation without its messages."""

    model = serializers.CharField(help_text="The model that the session remembers; empty: the server's default.")
    created_at = Moment()
    last_activity_at = Moment()
    usage = serializers.SerializerMethodField()

    class Meta:
        model = Session
        fields = [
            "session_id", "title", "model", "system_prompt", "persona_id", "created_at", "last_activity_at",
            "message_count", "usage", "metadata", "forked_from",
        ]  # fmt: skip

    def get_usage(self, session: Session) -> dict[str, Any]:
        return {
            "prompt_tokens": session.prompt_tokens,
            "completion_tokens": session.completion_tokens,
            "total_tokens": session.prompt_tokens + session.completion_tokens,
            "cost": float(session.cost),
        }


class SessionPatchSerializer(serializers.Serializer[Any]):
    """What a client may change of a session; metadata is replaced as a whole."""

    title = Text(required=False, allow_null=True, allow_blank=True, max_length=200)
    system_prompt = Text(required=False, allow_null=True, allow_blank=True, max_length=settings.MAX_MESSAGE_CHARS)
    metadata = Metadata(required=False, allow_null=True)


class MessageSerializer(serializers.ModelSerializer[Message]):
    """One message of the transcript. `usage`, `model` and `finish_reason` are null where the message is no reply.

    The context's `feedback` is what was said of the messages, by position.
    """

    id = serializers.CharField(source="public_id")
    created_at = Moment()
    completed_at = Moment()
    model = serializers.SerializerMethodField()
    usage = serializers.SerializerMethodField()
    finish_reason = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    superseded_at = Moment()
    feedback = serializers.SerializerMethodField()

    class Meta:
        model = Message
        fields = [
            "id", "turn_id", "role", "content", "status", "model", "usage", "latency_ms", "first_token_ms",
            "finish_reason", "error", "metadata", "created_at", "completed_at", "superseded_at", "feedback",
        ]  # fmt: skip

    def get_model(self, message: Message) -> str | None:
        return message.model or None

    def get_usage(self, message: Message) -> dict[str, Any] | None:
        return None if message.prompt_tokens is None else usage_of(message)

    def get_finish_reason(self, message: Message) -> str | None:
        return message.finish_reason or None

    def get_error(self, message: Message) -> dict[str, Any] | None:
        return stored_error(message)

    def get_feedback(self, message: Message) -> dict[str, Any] | None:
        feedback = self.context["feedback"].get(message.position)
        return None if feedback is None else FeedbackSerializer(feedback).data


class FeedbackSerializer(serializers.ModelSerializer[Feedback]):
    """What somebody thinks of a reply."""

    created_at = Moment()

    class Meta:
        model = Feedback
        fields = ["rating", "comment", "created_at"]


class OpinionSerializer(serializers.Serializer[Any]):
    """POST /messages/{id}/feedback. A rating of null takes the feedback back."""

    rating = serializers.ChoiceField(
        Feedback.Rating.values,
        allow_null=True,
        error_messages={"invalid_choice": _("Use “up”, “down” or null.")},  # DRF would repeat the value, however long
    )
    comment = Text(required=False, allow_null=True, allow_blank=True, max_length=MAX_COMMENT_CHARS)


class ForkSerializer(serializers.Serializer[Any]):
    """POST /sessions/{id}/fork."""

    after_turn = Text(required=False, allow_null=True, max_length=64)
    session_id = SessionId()
