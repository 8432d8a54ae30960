"""Chooses the conversations to export."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from sessions_api.models import Message, Session


@dataclass(frozen=True)
class Selection:
    """Conversations that fit all of this. `since` and `until` compare the last question, as GET /sessions does.

    At least one reply has `model` and one has `reply_status`. `metadata`: names, each with a value or `None` for any.
    """

    since: datetime | None = None
    until: datetime | None = None
    owner: str | None = None
    persona: str | None = None
    model: str | None = None
    status: str | None = None
    reply_status: str | None = None
    metadata: tuple[tuple[str, str | None], ...] = ()
    session_ids: tuple[str, ...] = ()

    def sessions(self) -> QuerySet[Session]:
        sessions = Session.objects.filter(**self._of_sessions())
        replies = Message.objects.filter(session=OuterRef("pk"), role=Message.Role.ASSISTANT)
        if self.model is not None:
            sessions = sessions.filter(Exists(replies.filter(model=self.model)))
        if self.reply_status is not None:
            sessions = sessions.filter(Exists(replies.filter(status=self.reply_status)))
        for number, (name, value) in enumerate(self.metadata):
            sessions = sessions.filter(metadata__has_key=name)
            if value is not None:
                text = Cast(KeyTextTransform(name, "metadata"), TextField())
                sessions = sessions.alias(**{f"metadata_{number}": text}).filter(**{f"metadata_{number}": value})
        return sessions

    def used(self) -> list[str]:
        """The names of the conditions. Their values may be what somebody wrote."""
        return [field.name for field in fields(self) if getattr(self, field.name) not in (None, ())]

    def _of_sessions(self) -> dict[str, Any]:
        lookups = {
            "last_activity_at__gte": self.since,
            "last_activity_at__lt": self.until,
            "owner": self.owner,
            "persona_id": self.persona,
            "closed_at__isnull": None if self.status is None else self.status == "open",
            "session_id__in": self.session_ids or None,
        }
        return {lookup: value for lookup, value in lookups.items() if value is not None}
