"""The objects of the wire contract that no view needs as a serializer, for the published document alone."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from access.schema import ErrorSerializer
from sessions_api.models import Feedback, Message
from web.fields import MAX_METADATA_BYTES

TURN_STATUSES = Message.Status.values
ROLES = Message.Role.values
RATINGS = Feedback.Rating.values


class Document(serializers.Serializer[Any]):
    # A docstring here would be published as the description of every document that has none.
    pass


def document(name: str, description: str, **fields: serializers.Field) -> type[Document]:
    """A document some of whose fields have names that a serializer uses for itself."""
    described = type(f"{name}Document", (Document,), {**fields, "__doc__": description})
    return extend_schema_serializer(component_name=name)(described)


class Count(serializers.IntegerField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, **kwargs)


@extend_schema_serializer(component_name="Usage")
class UsageDocument(Document):
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


@extend_schema_serializer(component_name="Totals")
class TotalsDocument(Document):
    """What all turns of a session took."""

    prompt_tokens = Count()
    completion_tokens = Count()
    total_tokens = Count()
    cost = serializers.FloatField(min_value=0, help_text="USD, as far as the provider named prices.")


@extend_schema_serializer(component_name="MessageAnswer")
class MessageAnswerDocument(Document):
    response = serializers.CharField(help_text="The reply.")
    session_id = serializers.CharField(help_text="Send it with the next message to go on with the conversation.")
    turn_id = serializers.CharField()


@extend_schema_serializer(component_name="ChatAnswer")
class ChatAnswerDocument(Document):
    response = serializers.CharField(help_text="The reply.")
    model_used = serializers.CharField(help_text="The model that wrote it, as the provider says.")
    session_id = serializers.CharField(help_text="Send it with the next message to go on with the conversation.")
    tokens_used = Count(help_text="usage.total_tokens.")
    timestamp = serializers.DateTimeField(help_text="When the reply was complete, in UTC.")
    turn_id = serializers.CharField()
    finish_reason = serializers.CharField(
        allow_null=True, help_text="Why the model stopped: stop, length, content_filter, …"
    )
    usage = UsageDocument()


@extend_schema_serializer(component_name="Turn")
class TurnDocument(Document):
    """A question and its reply, while it is written and after."""

    turn_id = serializers.CharField()
    session_id = serializers.CharField()
    status = serializers.ChoiceField(TURN_STATUSES)
    text = serializers.CharField(help_text="The reply as far as it has come.")
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    answer = ChatAnswerDocument(allow_null=True, help_text="Once the status is completed.")
    error = ErrorSerializer(allow_null=True, help_text="Where the turn failed or was interrupted.")


class MetadataDocument(serializers.DictField):
    def __init__(self) -> None:
        super().__init__(help_text=f"The client's own data: at most {MAX_METADATA_BYTES // 1024} KiB of JSON.")


@extend_schema_serializer(component_name="Feedback")
class FeedbackDocument(Document):
    """What somebody thinks of a reply."""

    rating = serializers.ChoiceField(RATINGS)
    comment = serializers.CharField(help_text="Empty where nothing was said.")
    created_at = serializers.DateTimeField()


@extend_schema_serializer(component_name="Message")
class MessageDocument(Document):
    """One message of a conversation."""

    id = serializers.CharField(help_text="For the parameters after and before.")
    turn_id = serializers.CharField(help_text="Shared by a question and its reply.")
    role = serializers.ChoiceField(ROLES)
    content = serializers.CharField()
    status = serializers.ChoiceField(TURN_STATUSES)
    model = serializers.CharField(allow_null=True)
    usage = UsageDocument(allow_null=True)
    latency_ms = Count(allow_null=True, help_text="From the question to the end of the reply.")
    first_token_ms = Count(allow_null=True, help_text="From the question to the reply's first text.")
    finish_reason = serializers.CharField(allow_null=True)
    error = ErrorSerializer(allow_null=True)
    metadata = MetadataDocument()
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    superseded_at = serializers.DateTimeField(
        allow_null=True, help_text="When a later turn took its place; shown with include=superseded alone."
    )
    feedback = FeedbackDocument(allow_null=True)


@extend_schema_serializer(component_name="MessageFeedback")
class MessageFeedbackDocument(Document):
    id = serializers.CharField(help_text="The message's.")
    feedback = FeedbackDocument(allow_null=True, help_text="Null: there is none any more.")


@extend_schema_serializer(component_name="Session")
class SessionDocument(Document):
    """A conversation without its messages."""

    session_id = serializers.CharField()
    title = serializers.CharField(help_text="The beginning of the first message, until somebody gives it another one.")
    model = serializers.CharField(help_text="The model that the session remembers; empty: the server's default.")
    system_prompt = serializers.CharField(help_text="Empty where it has none.")
    persona_id = serializers.CharField(help_text="Empty where it has none.")
    created_at = serializers.DateTimeField()
    last_activity_at = serializers.DateTimeField()
    message_count = Count(help_text="Questions and replies.")
    usage = TotalsDocument()
    metadata = MetadataDocument()
    forked_from = serializers.CharField(
        help_text="Where it began as a copy: the last turn that was copied. Empty where it did not."
    )
    owner = serializers.CharField(required=False, help_text="Whose it is, where `owner` was asked for.")


@extend_schema_serializer(component_name="SessionWithMessages")
class SessionWithMessagesDocument(SessionDocument):
    """A conversation with its newest messages."""

    messages = MessageDocument(many=True, help_text="The newest ones, oldest first.")


class Next(serializers.URLField):
    """Where a list goes on."""

    def __init__(self) -> None:
        super().__init__(allow_null=True, help_text="The next page, with the same filters; null on the last one.")


SessionPageDocument = document("SessionPage", "", data=SessionDocument(many=True), next=Next())
MessagePageDocument = document("MessagePage", "", data=MessageDocument(many=True), next=Next())


@extend_schema_serializer(component_name="SessionIds")
class SessionIdsDocument(Document):
    sessions = serializers.ListField(child=serializers.CharField(), help_text="Last active first.")
    count = Count(help_text="All of the caller's sessions, those of other pages included.")
    next = Next()


@extend_schema_serializer(component_name="Removed")
class RemovedDocument(Document):
    status = serializers.ChoiceField(["success"])
    message = serializers.CharField()


@extend_schema_serializer(component_name="Model")
class ModelDocument(Document):
    """A model as the provider describes it, with whatever else it says."""

    id = serializers.CharField(help_text="What to send as `model`.")
    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    context_length = Count(required=False, allow_null=True, help_text="Tokens.")
    pricing = serializers.DictField(required=False, help_text="USD per token, as text.")


ModelListDocument = document("ModelList", "", data=ModelDocument(many=True))
