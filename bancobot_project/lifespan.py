"""What happens when a worker starts and when it stops."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from chat.service import get_service
from sessions_api.maintenance import Maintenance

logger = logging.getLogger(__name__)

_stopping_since: float | None = None


def begin_to_stop() -> None:
    """From now on GRACEFUL_TIMEOUT runs."""
    global _stopping_since
    _stopping_since = time.monotonic()


async def run(receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """ASGI's lifespan: the turns of this process and the housekeeping begin and end with it."""
    await receive()
    service = get_service()
    maintenance = Maintenance()
    maintenance.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    maintenance.stop()
    elapsed = 0.0 if _stopping_since is None else time.monotonic() - _stopping_since
    await service.stop(max(0.0, settings.GRACEFUL_TIMEOUT - elapsed))
    await send({"type": "lifespan.shutdown.complete"})
