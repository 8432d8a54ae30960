"""Clients and their keys, what they have used, and the log of who did what."""

import secrets
import string
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

LETTERS = string.ascii_lowercase + string.digits
FOR_PREFIXES = ["varchar_pattern_ops", "timestamptz_ops"]  # PostgreSQL: the index also finds a prefix


class Scope(models.TextChoices):
    """What a client's key may do."""

    CHAT = "chat", _("say something, and follow or stop its answer")
    READ = "sessions:read", _("read its own sessions")
    WRITE = "sessions:write", _("change and close its own sessions")
    ERASE = "sessions:erase", _("erase its own sessions at once")
    ADMIN = "admin:read", _("read the sessions of all owners")


def new_identifier() -> str:
    """12 letters and digits: 62 bits, enough to be unique. Not a secret."""
    return "".join(secrets.choice(LETTERS) for _ in range(12))


def usual_scopes() -> list[str]:
    return [Scope.CHAT.value, Scope.READ.value, Scope.WRITE.value]


def only_scopes(value: Any) -> None:
    if not isinstance(value, list) or not set(map(str, value)) <= set(Scope.values):
        raise ValidationError(_("Use scopes out of: %s.") % ", ".join(Scope.values))


class Client(models.Model):
    """A program, a team or a bank's channel that calls with our keys. It owns its sessions.

    An empty limit means the setting's value; 0 means no limit.
    """

    client_id = models.CharField(_("client id"), max_length=32, unique=True, default=new_identifier, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    contact = models.CharField(_("contact"), max_length=200, blank=True)
    notes = models.TextField(_("notes"), blank=True)
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("The keys of a client that is not active are refused.")
    )
    scopes = models.JSONField(_("scopes"), default=usual_scopes, blank=True, validators=[only_scopes])
    requests_per_minute = models.PositiveIntegerField(_("requests per minute"), null=True, blank=True)
    turns_in_flight = models.PositiveIntegerField(_("messages answered at once"), null=True, blank=True)
    tokens_per_day = models.PositiveBigIntegerField(_("tokens per day"), null=True, blank=True)
    cost_per_month = models.DecimalField(
        _("cost per month (USD)"), max_digits=12, decimal_places=2, null=True, blank=True,
        validators=[MinValueValidator(0)],
    )  # fmt: skip
    sessions = models.PositiveIntegerField(_("sessions"), null=True, blank=True)
    stored_mb = models.PositiveIntegerField(_("stored text (MB)"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("client")
        verbose_name_plural = _("clients")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def owner(self) -> str:
        """The owner of its sessions."""
        return f"client:{self.client_id}"


class Key(models.Model):
    """A client's key: `bb_`, the identifier, `_` and a secret. Only the secret's hash is stored."""

    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="keys", verbose_name=_("client"))
    identifier = models.CharField(_("key"), max_length=12, unique=True, default=new_identifier, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    label = models.CharField(_("label"), max_length=100, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, editable=False)

    class Meta:
        verbose_name = _("key")
        verbose_name_plural = _("keys")
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"bb_{self.identifier}_…"


class RequestWindow(models.Model):
    """Requests of an owner or an address in one minute, which begins with the first request."""

    counted = models.CharField(max_length=120, primary_key=True)
    began_at = models.DateTimeField(db_index=True)
    requests = models.PositiveIntegerField()

    class Meta:
        verbose_name = _("request window")
        verbose_name_plural = _("request windows")

    def __str__(self) -> str:
        return self.counted


class Account(models.Model):
    """What an owner with a budget has used on `day`, and in the month that began on `month` (UTC).

    Turns of one owner lock this row, so that no two of them get the same rest of a budget. `exhausted`: the budget that
    refused the owner's last turn.
    """

    owner = models.CharField(max_length=80, primary_key=True)
    day = models.DateField()
    tokens = models.PositiveBigIntegerField(default=0)
    month = models.DateField()
    cost = models.DecimalField(max_digits=20, decimal_places=12, default=0)
    exhausted = models.CharField(max_length=20, null=True)  # noqa: DJ001 - NULL needs no default in the database
    exhausted_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")

    def __str__(self) -> str:
        return self.owner


class Reservation(models.Model):
    """The most that a running turn can use. After its end: its usage, until the account contains it."""

    turn_id = models.CharField(max_length=32, primary_key=True)
    owner = models.CharField(max_length=80)
    began_at = models.DateTimeField()
    tokens = models.PositiveBigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=12)
    ended = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")
        indexes = [models.Index(fields=["owner", "ended"], name="reservation_of_owner")]

    def __str__(self) -> str:
        return self.turn_id


class Stored(models.Model):
    """What an owner with a limit on it has stored: sessions, and bytes as sessions_api/store/sizes.py counts them.

    Writes of one owner lock this row. `counted_at`: when the record itself was last counted; empty: it is to be.
    """

    owner = models.CharField(max_length=80, primary_key=True)
    sessions = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    counted_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("stored")
        verbose_name_plural = _("stored")
        default_permissions = ()

    def __str__(self) -> str:
        return self.owner


class StoredChange(models.Model):
    """What the owner's next write adds to `Stored`: replies, corrections, and less than 0 for what was erased."""

    owner = models.CharField(max_length=80, db_index=True)
    sessions = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("change of what is stored")
        verbose_name_plural = _("changes of what is stored")
        default_permissions = ()

    def __str__(self) -> str:
        return self.owner


class Forking(models.Model):
    """The fork that `holder` runs for an owner until `expires_at`, and the bytes copied until `resets_at`."""

    owner = models.CharField(max_length=80, primary_key=True)
    holder = models.CharField(max_length=120)
    expires_at = models.DateTimeField()
    size = models.BigIntegerField()
    resets_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = _("fork that runs")
        verbose_name_plural = _("forks that run")
        default_permissions = ()

    def __str__(self) -> str:
        return self.owner


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Entries can be added and read. Only `purge` deletes some, when they have expired."""

    def update(self, **values: Any) -> int:
        raise TypeError("The audit log is not to be changed.")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("The audit log is not to be deleted from.")

    def purge(self, older_than: Any, most: int) -> int:
        """Delete at most `most` entries older than that moment. Return how many."""
        old = AuditEntry.objects.filter(at__lt=older_than).order_by("at")[:most]
        return models.QuerySet(AuditEntry).filter(pk__in=list(old.values_list("pk", flat=True))).delete()[0]


class AuditEntry(models.Model):
    """Who did what to which session, key or client, when and from where. Never what anybody wrote."""

    class Action(models.TextChoices):
        LISTED = "sessions.listed", _("listed sessions")
        READ = "session.read", _("read a session")
        EXPORTED = "sessions.exported", _("exported sessions")
        IMPORTED = "sessions.imported", _("imported sessions")
        CHANGED = "session.changed", _("changed a session")
        FORKED = "session.forked", _("copied a session")
        CLOSED = "session.closed", _("closed a session")
        ERASED = "session.erased", _("erased a session")
        PURGED = "sessions.purged", _("purged sessions")
        CLIENT_CREATED = "client.created", _("created a client")
        CLIENT_CHANGED = "client.changed", _("changed a client")
        KEY_CREATED = "key.created", _("created a key")
        KEY_REVOKED = "key.revoked", _("revoked a key")
        LOGIN = "login", _("logged in")
        LOGIN_FAILED = "login.failed", _("failed to log in")
        LOGIN_LOCKED = "login.locked", _("was locked out")
        LOGOUT = "logout", _("logged out")
        USER_CHANGED = "user.changed", _("changed a user or the user's rights")
        GROUP_CHANGED = "group.changed", _("changed a group or its rights")

    at = models.DateTimeField(_("when"), default=timezone.now, db_index=True)
    actor = models.CharField(_("who"), max_length=160)
    action = models.CharField(_("what"), max_length=30, choices=Action)
    target = models.CharField(_("which"), max_length=160, blank=True)
    owner = models.CharField(_("whose"), max_length=80, blank=True)
    address = models.CharField(_("from where"), max_length=45, blank=True)
    request_id = models.CharField(_("request"), max_length=128, blank=True)
    details = models.JSONField(_("details"), default=dict, blank=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit log")
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(
                fields=["target", "-at"], name="audit_target", condition=Q(target__gt=""), opclasses=FOR_PREFIXES
            ),
            models.Index(fields=["actor", "-at"], name="audit_actor", opclasses=FOR_PREFIXES),
            models.Index(fields=["action", "-at"], name="audit_action"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("The audit log is not to be changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("The audit log is not to be deleted from.")


class LoginAttempts(models.Model):
    """How often somebody has tried an admin password. The row expires at `until`, which each attempt postpones.

    `who` is a keyed hash of an address, or of a user name and an address.
    """

    who = models.CharField(max_length=64, primary_key=True)
    tries = models.PositiveIntegerField(default=0)
    until = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "bancobot_project_passwordtries"  # the app that created it
        default_permissions = ()

    def __str__(self) -> str:
        return self.who
