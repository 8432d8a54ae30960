"""What happens when a process that serves starts and when it stops."""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from chat.engine.service import get_service
from sessions_api.retention.maintenance import Maintenance

logger = logging.getLogger(__name__)

COLLECT_SECONDS = 10.0

_stopping_since: float | None = None


def begin_to_stop() -> None:
    """From now on no turn begins, and GRACEFUL_TIMEOUT runs. Runs on the event loop."""
    global _stopping_since
    _stopping_since = time.monotonic()
    get_service().stopping = True


async def end_turns(patience: float = 0.0) -> None:
    """Give the running turns so many seconds, then end them as interrupted."""
    await get_service().stop(patience)


def ease_garbage_collection() -> None:
    """Collect rarely, and only new objects: those of the start stay for good, and turns make few cycles.

    With 1,000 turns in flight this gained a fifth (docs/performance.md). Rarer collections gained no more, and kept
    files of failed database connections open, which only the collector finds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def collect_now_and_then() -> None:
    """The rare collections skip what survived the first one, such as connections that clients broke off.

    They would be found only after millions of allocations. Objects of the start are left out, so this is quick.
    """
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        gc.collect()


async def run(receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """ASGI's lifespan: this process's turns and housekeeping begin and end with it."""
    await receive()
    get_service()
    maintenance = Maintenance()
    maintenance.start()
    ease_garbage_collection()
    collecting = asyncio.create_task(collect_now_and_then())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    maintenance.stop()
    collecting.cancel()
    elapsed = 0.0 if _stopping_since is None else time.monotonic() - _stopping_since
    await end_turns(max(0.0, settings.GRACEFUL_TIMEOUT - elapsed))
    await send({"type": "lifespan.shutdown.complete"})
