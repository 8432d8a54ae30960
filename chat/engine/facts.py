"""The overview's facts about the provider and the turns of this process."""

import os
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.utils.translation import gettext as _

from chat.engine.turn import Turn
from chat.providers.base import Provider
from sessions_api.console.facts import Fact

MAX_NAMED = 5  # models


class Running(Protocol):
    """The part of the process's service that the facts need."""

    provider: Provider
    running: dict[str, Turn]


def service_facts(service: Running) -> list[Fact]:
    """Called outside of the event loop, while turns begin and end."""
    down, failing = service.provider.is_down, sorted(service.provider.failing_models)
    said = _("fails: its turns are refused at once") if down else _("answers")
    waiting = sum(turn.begun is None for turn in list(service.running.values()))
    turns = {"running": len(service.running) - waiting, "waiting": waiting}
    facts = [
        Fact(_("provider"), settings.LLM_PROVIDER),
        Fact(_("provider, for this process"), said, down),
        Fact(_("turns of this process"), _("%(running)d running, %(waiting)d in line") % turns),
    ]
    if failing:  # callers choose models, so this alone is nothing that the operator should act on
        named = ", ".join(failing[:MAX_NAMED]) + (", …" if len(failing) > MAX_NAMED else "")
        facts.append(Fact(_("models that fail, for this process"), f"{len(failing)}: {named}"))
    return facts + ([Fact(_("worker processes"), str(workers))] if (workers := processes()) else [])


def processes() -> int:
    """The number of workers: processes with the same parent as this one. 0 where there is one, or nobody tells.

    gunicorn forks them, so parent and child have the same command line. uvicorn's parent is a shell, for instance.
    """
    parent = os.getppid()
    try:
        if Path(f"/proc/{parent}/cmdline").read_bytes() != Path("/proc/self/cmdline").read_bytes():
            return 0
        return len(Path(f"/proc/{parent}/task/{parent}/children").read_bytes().split())
    except OSError:
        return 0
