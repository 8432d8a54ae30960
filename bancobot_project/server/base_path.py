"""BASE_PATH: the service under a path of its host.

Some proxies take the path away before they pass a request on, others leave it. Both are understood at once: a path that
begins with it is cut, and any other has been cut already. What is cut decides everything here; Django gets the whole
path, to make addresses with it.
"""

from typing import Any

from django.conf import settings


def inner(path: str) -> str:
    """The path of the service's own that is meant: with /bot, /bot/chat and /chat are /chat. /botany is not in /bot."""
    base: str = settings.BASE_PATH
    if base and (path == base or path.startswith(f"{base}/")):
        return path[len(base) :] or "/"
    return path


def outer(scope: dict[str, Any]) -> dict[str, Any]:
    """The ASGI scope of a request with the path that browsers see, as Django wants it with FORCE_SCRIPT_NAME."""
    base: str = settings.BASE_PATH
    return scope | {"path": base + scope["path"], "root_path": base} if base else scope
