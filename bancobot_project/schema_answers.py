"""The objects of the wire contract that no view needs as a serializer, for the published document alone."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from access.schema import ErrorSerializer
from sessions_api.api.serializers import TURN_STATUSES, UsageSerializer


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
    usage = UsageSerializer()


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


@extend_schema_serializer(component_name="Model")
class ModelDocument(Document):
    """A model as the provider describes it, with whatever else it says."""

    id = serializers.CharField(help_text="What to send as `model`.")
    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    context_length = Count(required=False, allow_null=True, help_text="Tokens.")
    pricing = serializers.DictField(required=False, help_text="USD per token, as text.")


ModelListDocument = document("ModelList", "", data=ModelDocument(many=True))
