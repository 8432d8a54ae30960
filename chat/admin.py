"""What the overview says of the provider and of this process's turns. Django's admin imports this module."""

import os
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from sessions_api.console.facts import Fact, add_source


@add_source
def provider_facts() -> list[Fact]:
    facts = [Fact(_("provider"), settings.LLM_PROVIDER)]
    here = running_service()
    if here is not None:
        down = here.provider.is_down
        said = _("fails: its turns are refused at once") if down else _("answers")
        facts.append(Fact(_("provider, for this process"), said, down))
        waiting = sum(turn.begun is None for turn in list(here.running.values()))
        said = _("%(running)d running, %(waiting)d in line") % {
            "running": len(here.running) - waiting,
            "waiting": waiting,
        }
        facts.append(Fact(_("turns of this process"), said))
    if workers := processes():
        facts.append(Fact(_("worker processes"), str(workers)))
    return facts


def running_service() -> Any:
    """The service of this process, if it has one: this is asked outside of its event loop, and must not make one.

    It is not imported either: every command loads this module, and most need nothing of what talks to providers.
    """
    return getattr(sys.modules.get("chat.service"), "_service", None)


def processes() -> int:
    """How many processes the parent of this one has started: the workers. 0 where the system does not tell."""
    parent = os.getppid()
    try:
        return len(Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    except OSError:
        return 0
