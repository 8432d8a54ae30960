"""GET /health: whether this process can store messages. Asks no provider and needs no key."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.db import connection
from django.http import HttpResponseBase, JsonResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from access.callers import Caller, open_caller
from access.schema import ACCESS_MODES, ALWAYS, errors
from bancobot_project.database.problems import in_the_way_of
from chat.viewsets import LoopViewSet
from sessions_api.models import Lease
from sessions_api.store.process import this_process
from sessions_api.store.rights import missing_rights
from sessions_api.store.writer import Operation, writer
from web.errors import ApiError, json_error
from web.openapi import answer

STATUSES = ["ok", "unavailable"]
FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 5.0  # while another process holds SQLite's lock, or the server says nothing


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


def write_a_row(checks: Sequence[None]) -> list[bool]:
    """Whether messages could be stored: a row is written, and gone again in the same transaction."""
    if obstacles():
        return [False] * len(checks)
    lease = Lease(name=f"health {secrets.token_hex(16)}", holder=this_process(), expires_at=timezone.now())
    lease.save(force_insert=True)
    lease.delete()
    return [True] * len(checks)


def obstacles() -> Any:
    """What keeps other work than this from being stored: rights, or a file that can't be opened for writing again."""
    if connection.vendor == "sqlite":
        return in_the_way_of(Path(connection.settings_dict["NAME"]))
    return missing_rights()


class Pulse:
    """The last look at the database, which all who ask share: they cost no more than a write a second.

    A look that fails has written nothing, so the next one need not wait, and finds a database that is back at once.
    """

    def __init__(self, write: Operation[None, bool]) -> None:
        self._write = write
        self._good_until = 0.0
        self._began_at = 0.0
        self._look: asyncio.Task[bool] | None = None

    async def works(self) -> bool:
        asked_at = time.monotonic()
        if asked_at < self._good_until:
            return True
        while (left := asked_at + PATIENCE_SECONDS - time.monotonic()) > 0:
            look, began_at = self._current(), self._began_at
            done, _ = await asyncio.wait({look}, timeout=left)
            if done and (look.result() or began_at >= asked_at):  # one that began before may have missed a return
                return look.result()
        return False

    def _current(self) -> "asyncio.Task[bool]":
        loop = asyncio.get_running_loop()
        if self._look is None or self._look.done() or self._look.get_loop() is not loop:
            self._began_at = time.monotonic()
            self._look = loop.create_task(self._take_a_look())
        return self._look

    async def _take_a_look(self) -> bool:
        try:
            works = await writer.run(self._write, None)
        except DatabaseProblem:
            works = False
        self._good_until = time.monotonic() + FRESH_SECONDS if works else 0.0
        return works


pulse = Pulse(write_a_row)


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
        description="Writes to the database, at most once a second, asks no provider and needs no key.",
        auth=[],
        responses=answer(HealthSerializer, {"no ar": health("ok")})
        | errors(*ALWAYS)
        | answer(HealthSerializer, {"fora": health("unavailable")}, 503, "Not now"),
    )
    async def retrieve(self, request: Request) -> HttpResponseBase:
        works = await pulse.works()
        body, status = (health("ok"), 200) if works else (health("unavailable"), 503)
        return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})

    async def http_method_not_allowed(  # type: ignore[override]
        self, request: Any, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        allowed = {"Allow": ", ".join(self.allowed_methods)}
        return json_error(request, ApiError("method_not_allowed", headers=allowed))
