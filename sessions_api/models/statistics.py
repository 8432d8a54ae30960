"""What the overview is answered from: counts of turns that have ended. Numbers alone, which outlive erased sessions."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Tally(models.Model):
    """Turns that ended in an hour or on a day (UTC): of all, of one model, of one client, or with one error.

    `first_token` and `total` say how many of them took how long: {bucket of histograms.py: turns}.
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
    """What the turns of a session that ended within an hour took. Goes with its session."""

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
    """Up to which moment the ends of turns are in the tallies; `kind` is one of statistics.KINDS."""

    kind = models.CharField(max_length=10, primary_key=True)
    moment = models.DateTimeField()

    class Meta:
        verbose_name = _("counted until")
        verbose_name_plural = _("counted until")

    def __str__(self) -> str:
        return f"{self.kind} {self.moment}"
