"""The turns that run now, in all processes: how long, whose, how far. Their texts are never shown."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Length
from django.http import HttpRequest
from django.utils import timezone

from access import audit
from sessions_api.console.session_list import audit_sessions
from sessions_api.models import Cancellation, Message
from sessions_api.retention.dead_turns import is_dead
from sessions_api.statistics.overview import client_labels
from sessions_api.statistics.tallies import client_of
from sessions_api.store.turns import request_cancellations

MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class RunningTurn:
    """`silent`: no heartbeat for longer than the lease. `stopping`: somebody has cancelled it."""

    turn_id: str
    session_pk: int
    session_id: str
    client: Any
    model: str
    began_at: datetime
    age: timedelta
    characters: int
    runner: str
    silent: bool
    stopping: bool


def running_turns() -> list[RunningTurn]:
    """The oldest first. One more than `MAX_SHOWN` means that there are more."""
    pending = Message.objects.filter(status=Message.Status.PENDING).order_by("created_at", "session_id")
    stopping = Exists(Cancellation.objects.filter(turn_id=OuterRef("turn_id")))
    named = pending.annotate(
        session_name=F("session__session_id"), owner=F("session__owner"), session_model=F("session__model"),
        characters=Length("content"), stopping=stopping,
    )  # fmt: skip
    fields = ("turn_id", "session_id", "model", "created_at", "runner", "heartbeat_at", *named.query.annotations)
    rows = list(named.values(*fields)[: MAX_SHOWN + 1])
    labels = client_labels({client_of(row["owner"]) for row in rows})
    now = timezone.now()
    return [_turn(row, labels[client_of(row["owner"])], now) for row in rows]


def _turn(row: dict[str, Any], client: Any, now: datetime) -> RunningTurn:
    return RunningTurn(
        turn_id=row["turn_id"],
        session_pk=row["session_id"],
        session_id=row["session_name"],
        client=client,
        model=row["model"] or row["session_model"],
        began_at=row["created_at"],
        age=now - row["created_at"],
        characters=row["characters"],
        runner=runner_of(row["runner"]),
        silent=is_dead(row["heartbeat_at"]),
        stopping=row["stopping"],
    )


def runner_of(name: str) -> str:
    """Machine and process number in a runner's name."""
    namespace, _, process = name.partition(":")
    return f"{namespace.partition('/')[0]}:{process.partition(':')[0]}"


def cancel(request: HttpRequest, turn_id: str) -> bool:
    """Ask the process that runs the turn to stop it, and write that to the audit log. Return whether it still ran."""
    running = Message.objects.filter(turn_id=turn_id, status=Message.Status.PENDING)
    reply = running.select_related("session").only("turn_id", "session__session_id", "session__owner").first()
    if reply is None:
        return False
    with transaction.atomic():
        request_cancellations([turn_id])
        audit_sessions(request, audit.Action.CHANGED, [reply.session], cancelled=turn_id)
    return True
