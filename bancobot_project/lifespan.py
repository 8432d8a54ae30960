"""What happens when a worker starts and when it stops."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings

from chat.service import get_service
from sessions_api.maintenance import Maintenance

logger = logging.getLogger(__name__)

MARGIN_SECONDS = 2.0  # to record what did not finish, before the server's own patience ends


async def run(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """ASGI's lifespan: the turns of this process and the housekeeping begin and end with it."""
    await receive()
    service = get_service()
    maintenance = Maintenance()
    maintenance.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    maintenance.stop()
    await service.stop(max(0.0, settings.GRACEFUL_TIMEOUT - MARGIN_SECONDS))
    await send({"type": "lifespan.shutdown.complete"})
