"""GET /health: whether this process and its database answer. Asks no provider and needs no key."""

from collections.abc import Sequence

from django.conf import settings
from django.db import Error as DatabaseProblem
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from sessions_api.store.writer import writer
from web.errors import ApiError, json_error


def _answers(checks: Sequence[None]) -> list[bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return [True] * len(checks)


@csrf_exempt  # nothing here changes anything; a POST is answered with 405
async def health(request: HttpRequest) -> JsonResponse:
    """200 with `"status": "ok"`, or 503 with `"status": "unavailable"`."""
    if request.method not in ("GET", "HEAD"):
        return json_error(request, ApiError("method_not_allowed", headers={"Allow": "GET, HEAD"}))
    try:
        await writer.run(_answers, None)
        database = "ok"
    except DatabaseProblem:
        database = "unavailable"
    body = {
        "status": "ok" if database == "ok" else "unavailable",
        "service": "BancoBot API",
        "version": settings.VERSION,
        "access": settings.ACCESS_MODE,
        "checks": {"database": database},
    }
    return JsonResponse(body, status=200 if database == "ok" else 503, headers={"Cache-Control": "no-store"})
