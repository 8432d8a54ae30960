"""The endpoints of a turn that has begun, and the models on offer."""

from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from access.callers import caller_of
from access.models import Scope
from access.schema import CALLER, KEY, OPTIONAL_KEY, errors
from chat import schema, serializers
from chat.answers import chat_answer, turn_state
from chat.engine.following import FollowedTurn
from chat.engine.listener import Listener
from chat.engine.service import get_service
from chat.providers.base import ProviderError
from chat.schema import TURN_ERRORS
from chat.views import ended_well, omitted, stream_of
from chat.viewsets import LoopViewSet
from web.errors import ApiError, language_of
from web.openapi import answer

LAST_EVENT_ID = serializers.Offset()


class ModelsViewSet(LoopViewSet):
    """The models on offer: GET /models. Works without a key."""

    scopes = {"list": ()}
    keyless = True

    @extend_schema(
        operation_id="listModels",
        tags=["Models"],
        summary="The models on offer",
        description="The provider's own list, which the server keeps for some minutes. Works without a key.",
        auth=OPTIONAL_KEY,
        responses=answer(serializers.ModelListSerializer, {"modelos": schema.MODELS})
        | errors(*CALLER, *schema.PROVIDER),
    )
    async def list(self, request: Request) -> HttpResponseBase:
        try:
            listing = await get_service().catalogue.listing(caller_of(request).provider_key)
        except ProviderError as failure:
            raise ApiError(failure.code, retry_after=failure.retry_after) from failure
        return listing.response(request, "application/json", Vary="Authorization, X-API-Key", **self.headers)


@extend_schema(tags=["Turns"], auth=KEY)
class TurnsViewSet(LoopViewSet):
    """A turn, during and after its run: GET /turns/{id}, GET /turns/{id}/events, POST /turns/{id}/cancel."""

    scopes = {"retrieve": (Scope.CHAT, Scope.READ), "events": (Scope.CHAT, Scope.READ), "cancel": (Scope.CHAT,)}

    @extend_schema(
        operation_id="getTurn",
        summary="A turn's state",
        description="While it runs: the text so far. When it is done: its answer, or why there is none.",
        parameters=[schema.IN_TURN],
        responses=answer(serializers.TurnSerializer, {"concluído": schema.COMPLETED, "em andamento": schema.PENDING})
        | errors(*TURN_ERRORS),
    )
    async def retrieve(self, request: Request, turn_id: str) -> Response:
        service = get_service()
        reply = await service.find(caller_of(request).owner, turn_id)
        running = service.running.get(turn_id)
        if running is not None:  # the database is up to a second behind
            reply.content = running.text
        return Response(turn_state(reply))

    @extend_schema(
        operation_id="followTurn",
        summary="Take a turn's stream up again",
        description="From a character of the reply on, while the turn runs and after, on any worker. Its `done` has "
        "the keys of POST /chat's answer, whichever address began the turn.",
        parameters=[schema.IN_TURN, serializers.EventsQuery, schema.LAST_EVENT_ID, schema.OMITTED],
        responses=schema.events_of(schema.CHAT_ANSWER)
        | errors(*TURN_ERRORS, problems={"after": "Use o id de um evento, um número inteiro."}),
    )
    async def events(self, request: Request, turn_id: str) -> HttpResponseBase:
        turn = await get_service().follow(caller_of(request).owner, turn_id)
        if request.method == "HEAD":  # nobody reads the events, and they may take minutes
            return HttpResponse(content_type="text/event-stream", headers=omitted(turn))
        listener = Listener(turn, caller_of(request).key_id)
        headers = omitted(turn) | self.headers
        return stream_of(listener, whole_turn, language_of(request), offset_of(request), headers)

    @extend_schema(
        operation_id="cancelTurn",
        summary="Stop a turn",
        description="What has come of the reply is kept; who listens gets `done` with the finish_reason `cancelled`. A "
        "turn that has ended is answered as it is.",
        parameters=[schema.IN_TURN],
        request=None,
        responses=answer(serializers.TurnSerializer, {"cancelado": schema.CANCELLED, "já concluído": schema.COMPLETED})
        | errors(*TURN_ERRORS),
    )
    async def cancel(self, request: Request, turn_id: str) -> Response:
        await get_service().cancel(caller_of(request).owner, turn_id)
        return await self.retrieve(request, turn_id)


def whole_turn(turn: FollowedTurn) -> dict[str, Any]:
    return chat_answer(ended_well(turn), turn.turn_id, turn.session_id)


def offset_of(request: Request) -> int:
    """The character from which a stream is resumed. Raises `ValidationError`."""
    try:
        last = LAST_EVENT_ID.run_validation(request.META.get("HTTP_LAST_EVENT_ID", ""))
    except ValidationError as problem:
        raise ValidationError({"Last-Event-ID": problem.detail}) from None
    after = serializers.EventsQuery.read(request)["after"]
    return next((place for place in (last, after) if place is not None), 0)
