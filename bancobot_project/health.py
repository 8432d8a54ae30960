"""GET /health: whether this process and its database answer. Asks no provider and needs no key."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.db import connection
from django.http import HttpResponseBase, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from access.callers import Caller, open_caller
from access.schema import ACCESS_MODES, ALWAYS, errors
from chat.viewsets import LoopViewSet
from sessions_api.store.writer import writer
from web.errors import ApiError, json_error
from web.openapi import answer

STATUSES = ["ok", "unavailable"]


class HealthChecksSerializer(serializers.Serializer[Any]):
    database = serializers.ChoiceField(STATUSES)


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(STATUSES)
    service = serializers.CharField()
    version = serializers.CharField()
    access = serializers.ChoiceField(
        ACCESS_MODES, help_text="Which keys callers need: none, BancoBot's, the provider's, or one of the two."
    )
    checks = HealthChecksSerializer()


def health(database: str) -> dict[str, Any]:
    return {
        "status": database,
        "service": "BancoBot API",
        "version": settings.VERSION,
        "access": settings.ACCESS_MODE,
        "checks": {"database": database},
    }


def _answers(checks: Sequence[None]) -> list[bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return [True] * len(checks)


class HealthViewSet(LoopViewSet):
    """The same answer for all callers. It ignores keys and Accept headers, and counts no requests."""

    http_method_names = ["get", "head"]
    scopes = {"retrieve": ()}
    keyless = True

    async def recognise(self, request: Any) -> Caller:
        return open_caller()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Checks neither permissions nor the Accept header."""

    @extend_schema(
        operation_id="getHealth",
        tags=["Service"],
        summary="Whether the service works",
        description="Looks at the database, asks no provider and needs no key.",
        auth=[],
        responses=answer(HealthSerializer, {"no ar": health("ok")})
        | errors(*ALWAYS)
        | answer(HealthSerializer, {"fora": health("unavailable")}, 503, "Not now"),
    )
    async def retrieve(self, request: Request) -> HttpResponseBase:
        try:
            await writer.run(_answers, None)
            body, status = health("ok"), 200
        except DatabaseProblem:
            body, status = health("unavailable"), 503
        return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})

    async def http_method_not_allowed(  # type: ignore[override]
        self, request: Any, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        allowed = {"Allow": ", ".join(self.allowed_methods)}
        return json_error(request, ApiError("method_not_allowed", headers=allowed))
