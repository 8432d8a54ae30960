"""Which conversations are to be exported."""

from dataclasses import dataclass, fields
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from sessions_api.models import Message, Session


@dataclass(frozen=True)
class Selection:
    """Conversations of which all of this is true. `since` and `until` look at the last question, as GET /sessions does.

    `model` and `reply_status` are those of at least one reply. `metadata`: names, with the value or `None` for any.
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
        sessions = Session.objects.filter(self._of_sessions())
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
        """The names of what it asks for; the values may be what somebody wrote."""
        return [field.name for field in fields(self) if getattr(self, field.name) not in (None, ())]

    def _of_sessions(self) -> Q:
        rules = Q()
        if self.since is not None:
            rules &= Q(last_activity_at__gte=self.since)
        if self.until is not None:
            rules &= Q(last_activity_at__lt=self.until)
        if self.owner is not None:
            rules &= Q(owner=self.owner)
        if self.persona is not None:
            rules &= Q(persona_id=self.persona)
        if self.status is not None:
            rules &= Q(closed_at__isnull=self.status == "open")
        if self.session_ids:
            rules &= Q(session_id__in=self.session_ids)
        return rules
