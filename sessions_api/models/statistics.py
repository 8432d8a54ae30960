"""Counts of ended turns, for the overview. They hold only numbers, and outlive erased sessions."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Tally(models.Model):
    """Turns that ended in an hour or on a day (UTC): all, or those of one model, one client or one error.

    `first_token` and `total` are histograms of durations: {bucket of histograms.py: turns}.
    """

    class Grain(models.TextChoices):
        HOUR = "hour", _("hour")
        DAY = "day", _("day")

    class Dimension(models.TextChoices):
        ALL = "all", _("all")
        MODEL = "model", _("model")
        CLIENT = "client", _("client")
        ERROR = "error", _("error")

    pk = models.CompositePrimaryKey("grain", "start", "dimension", "name")
    grain = models.CharField(max_length=4, choices=Grain)
    start = models.DateTimeField()
    dimension = models.CharField(max_length=6, choices=Dimension)
    name = models.CharField(max_length=200, blank=True)
    turns = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    cancelled = models.PositiveIntegerField()
    prompt_tokens = models.PositiveBigIntegerField()
    completion_tokens = models.PositiveBigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=12)
    first_token = models.JSONField()
    total = models.JSONField()

    class Meta:
        verbose_name = _("tally")
        verbose_name_plural = _("tallies")

    def __str__(self) -> str:
        return f"{self.dimension} {self.name} {self.start:%Y-%m-%d %H:%M}"


class SessionCost(models.Model):
    """Usage of a session's turns that ended within an hour. Erased with its session."""

    pk = models.CompositePrimaryKey("session_id", "start")
    session = models.ForeignKey(
        "sessions_api.Session", on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    start = models.DateTimeField(db_index=True)
    turns = models.PositiveIntegerField()
    tokens = models.PositiveBigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=12)

    class Meta:
        verbose_name = _("cost of a session")
        verbose_name_plural = _("costs of sessions")

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} {self.cost}"


class CountedUntil(models.Model):
    """The moment up to which ended turns are in the tallies; `kind` is one of tallies.KINDS."""

    kind = models.CharField(max_length=10, primary_key=True)
    moment = models.DateTimeField()

    class Meta:
        verbose_name = _("counted until")
        verbose_name_plural = _("counted until")

    def __str__(self) -> str:
        return f"{self.kind} {self.moment}"
