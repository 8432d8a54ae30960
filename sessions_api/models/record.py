"""The record: conversations, their messages, and the leases of housekeeping."""

import secrets
import string
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access.budgets import Settlement

LETTERS_AND_DIGITS = string.ascii_letters + string.digits


def new_public_id() -> str:
    """An id that cannot be guessed: over 128 random bits, URL-safe, 22 characters.

    The first is a letter or a digit: command lines take a "-" there for an option, and spreadsheets for a formula.
    """
    return secrets.choice(LETTERS_AND_DIGITS) + secrets.token_urlsafe(16)[:21]  # 5.9 and 126 bits


class Session(models.Model):
    """A conversation of one owner. `session_id` is its public name, unique among the owner's open sessions.

    `message_count` counts questions and replies, including superseded ones, so it is the next message's position.
    `superseded_count` counts those that a later turn replaced. `forked_from`: the last copied turn, if this session
    began as a copy of another one.
    """

    owner = models.CharField(_("owner"), max_length=80)
    session_id = models.CharField(_("session id"), max_length=128)
    title = models.CharField(_("title"), max_length=200, blank=True)
    model = models.CharField(_("model"), max_length=200, blank=True)
    system_prompt = models.TextField(_("system prompt"), blank=True)
    persona_id = models.CharField(_("persona"), max_length=200, blank=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"))
    last_activity_at = models.DateTimeField(_("last activity"))
    closed_at = models.DateTimeField(_("closed at"), null=True, blank=True)
    message_count = models.PositiveIntegerField(_("messages"), default=0)
    superseded_count = models.PositiveIntegerField(_("superseded messages"), default=0, db_default=0)
    forked_from = models.CharField(_("forked from"), max_length=32, blank=True, default="", db_default="")
    prompt_tokens = models.PositiveBigIntegerField(_("prompt tokens"), default=0)
    completion_tokens = models.PositiveBigIntegerField(_("completion tokens"), default=0)
    cost = models.DecimalField(_("cost (USD)"), max_digits=20, decimal_places=12, default=0)

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        ordering = ["-last_activity_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "session_id"], condition=Q(closed_at=None), name="one_open_session_per_owner_and_id"
            )
        ]
        indexes = [
            models.Index(
                fields=["owner", "-last_activity_at", "-id"], condition=Q(closed_at=None), name="session_of_owner"
            ),
            models.Index(
                fields=["owner", "persona_id", "-last_activity_at", "-id"],
                condition=Q(persona_id__gt=""),
                name="session_of_persona",
            ),
            models.Index(fields=["-last_activity_at", "-id"], name="session_activity"),
            models.Index(fields=["closed_at"], name="session_closed", condition=Q(closed_at__isnull=False)),
            models.Index(fields=["owner"], name="session_closed_of_owner", condition=Q(closed_at__isnull=False)),
            models.Index(fields=["session_id"], name="session_public_id"),
        ]

    def __str__(self) -> str:
        """Never the title: pages that erase, and the admin's own log, show this and write no entry in the audit log."""
        return self.session_id

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Message(models.Model):
    """One message of a session. A turn is a question and its reply, which share `turn_id`.

    The primary key is the session and the position, so that a table can be sharded by session. A reply is `pending`
    while its turn runs. Meanwhile `runner` names the process that runs it, and `heartbeat_at` is that process's last
    write.
    """

    class Role(models.TextChoices):
        SYSTEM = "system", _("system")
        USER = "user", _("user")
        ASSISTANT = "assistant", _("assistant")
        TOOL = "tool", _("tool")

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        COMPLETED = "completed", _("completed")
        CANCELLED = "cancelled", _("cancelled")
        FAILED = "failed", _("failed")
        INTERRUPTED = "interrupted", _("interrupted")

    pk = models.CompositePrimaryKey("session_id", "position")
    session = models.ForeignKey(
        Session, on_delete=models.CASCADE, related_name="messages", db_index=False, verbose_name=_("session")
    )
    position = models.PositiveIntegerField(_("position"))
    turn_id = models.CharField(_("turn"), max_length=32)
    role = models.CharField(_("role"), max_length=10, choices=Role)
    content = models.TextField(_("content"), blank=True, default="", db_default="")
    status = models.CharField(_("status"), max_length=12, choices=Status)
    model = models.CharField(_("model"), max_length=200, blank=True, default="", db_default="")
    provider = models.CharField(_("provider"), max_length=100, blank=True, default="", db_default="")
    generation_id = models.CharField(_("generation id"), max_length=200, blank=True, default="", db_default="")
    finish_reason = models.CharField(_("finish reason"), max_length=50, blank=True, default="", db_default="")
    prompt_tokens = models.PositiveIntegerField(_("prompt tokens"), null=True)
    completion_tokens = models.PositiveIntegerField(_("completion tokens"), null=True)
    cached_tokens = models.PositiveIntegerField(_("cached tokens"), null=True)
    reasoning_tokens = models.PositiveIntegerField(_("reasoning tokens"), null=True)
    usage_estimated = models.BooleanField(_("usage estimated"), default=False, db_default=False)
    cost = models.DecimalField(_("cost (USD)"), max_digits=20, decimal_places=12, null=True)
    first_token_ms = models.PositiveIntegerField(_("first token (ms)"), null=True)
    latency_ms = models.PositiveIntegerField(_("latency (ms)"), null=True)
    history_omitted = models.PositiveIntegerField(_("messages left out of the history"), default=0, db_default=0)
    error_code = models.CharField(_("error"), max_length=50, blank=True, default="", db_default="")
    may_have_been_billed = models.BooleanField(_("may have been billed"), default=False, db_default=False)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"))
    completed_at = models.DateTimeField(_("completed at"), null=True)
    superseded_at = models.DateTimeField(_("superseded at"), null=True)
    runner = models.CharField(_("runner"), max_length=120, blank=True, default="", db_default="")
    heartbeat_at = models.DateTimeField(_("heartbeat"), null=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["session_id", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["session"], condition=Q(status="pending"), name="one_running_turn_per_session"
            )
        ]
        indexes = [
            models.Index(fields=["turn_id"], name="message_turn"),
            models.Index(
                fields=["session"], condition=Q(status__in=["failed", "interrupted"]), name="message_unfinished"
            ),
            # Ends of turns in order. Only replies have a runner, except those that a fork or an import copied.
            models.Index(
                fields=["completed_at"], condition=Q(runner__gt="", completed_at__isnull=False), name="message_ended"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.position}"

    @property
    def public_id(self) -> str:
        """The message's id for clients: turn and position."""
        return f"{self.turn_id}.{self.position}"


# What a reply's metadata, and the answer, say of how it came about: parameters that the model refused, and models that
# were asked before (each a "model" and the "code" of the error that sent the turn on).
NOTES = ("parameters_left_out", "fallbacks")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a turn ended. The fields are Message's, and update its pending reply."""

    session_pk: int
    position: int
    content: str
    status: str
    completed_at: datetime = field(default_factory=timezone.now)
    model: str = ""
    provider: str = ""
    generation_id: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_estimated: bool = False
    cost: Decimal | None = None
    first_token_ms: int | None = None
    latency_ms: int | None = None
    history_omitted: int = 0
    error_code: str = ""
    may_have_been_billed: bool = False
    settlement: Settlement | None = None  # if the turn began with a quote
    stored_for: str = ""  # the owner, if there is a limit on what it stores
    metadata: dict[str, Any] = field(default_factory=dict)  # the `NOTES` that apply


class Feedback(models.Model):
    """An opinion on a reply. The newest one counts. It is erased with its session."""

    class Rating(models.TextChoices):
        UP = "up", _("good")
        DOWN = "down", _("bad")

    pk = models.CompositePrimaryKey("session_id", "position")
    session = models.ForeignKey(
        Session, on_delete=models.CASCADE, related_name="feedback", db_index=False, verbose_name=_("session")
    )
    position = models.PositiveIntegerField(_("position"))
    rating = models.CharField(_("rating"), max_length=4, choices=Rating)
    comment = models.TextField(_("comment"), blank=True, default="", db_default="")
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        verbose_name = _("feedback")
        verbose_name_plural = _("feedback")
        indexes = [models.Index(fields=["rating", "created_at"], name="feedback_rating")]

    def __str__(self) -> str:
        return self.rating


class IdempotencyKey(models.Model):
    """A client's key for a request, and the turn that the request began. It is erased with its session.

    `fingerprint` is a keyed hash of the request, which reveals no text.
    """

    pk = models.CompositePrimaryKey("owner", "key")
    owner = models.CharField(_("owner"), max_length=80)
    key = models.CharField(_("key"), max_length=255)
    fingerprint = models.CharField(max_length=64)
    turn_id = models.CharField(_("turn"), max_length=32)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="+", verbose_name=_("session"))
    created_at = models.DateTimeField(_("created at"), db_index=True)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")

    def __str__(self) -> str:
        return self.key


class Cancellation(models.Model):
    """A request to stop a turn that another process runs. That process looks here."""

    turn_id = models.CharField(max_length=32, primary_key=True)
    requested_at = models.DateTimeField()

    class Meta:
        verbose_name = _("cancellation")
        verbose_name_plural = _("cancellations")

    def __str__(self) -> str:
        return self.turn_id


class Lease(models.Model):
    """The process that does a piece of housekeeping until `expires_at`: one at a time."""

    name = models.CharField(max_length=50, primary_key=True)
    holder = models.CharField(max_length=120)
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")

    def __str__(self) -> str:
        return self.name
