"""The chat page at /. Its script in static/chat/ uses the public API."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.views.decorators.csrf import csrf_exempt

from chat.page_texts import TEXTS
from chat.providers import PROVIDERS
from sessions_api.exports.formats import FORMATS
from web.errors import ApiError, json_error
from web.responses import compress

# The page's own files and API. Browsers that support it show no HTML but what DOMPurify has cleaned.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
# In the order of their use. The browser fetches them together instead of one after the other.
MODULES = (
    "main.js", "access.js", "address.js", "api.js", "composer.js", "conversation.js", "dom.js", "gate.js", "keys.js",
    "message.js", "models.js", "outbox.js", "pages.js", "records.js", "rendering.js", "scroller.js", "sidebar.js",
    "stream.js", "tabs.js", "texts.js", "transcript.js", "unsent.js", "versions.js", "writer.js",
)  # fmt: skip


def default_model() -> str:
    configured = settings.PROVIDERS[settings.LLM_PROVIDER].get("default_model")
    return configured or PROVIDERS[settings.LLM_PROVIDER].default_model


@csrf_exempt  # the page changes nothing, and a POST is answered with 405
def chat_page(request: HttpRequest) -> HttpResponse:
    if request.method not in ("GET", "HEAD"):
        return json_error(request, ApiError("method_not_allowed", headers={"Allow": "GET, HEAD"}))
    data = {
        "access": settings.ACCESS_MODE,
        "default_model": default_model(),
        "language": get_language(),
        "texts": TEXTS,
    }
    context = {
        "data": data,
        "access": settings.ACCESS_MODE,
        "modules": MODULES,
        "exports": FORMATS,
        "base": settings.BASE_PATH,
    }
    answer = render(request, "chat/page.html", context)
    answer["Content-Security-Policy"] = POLICY
    answer["Cache-Control"] = "no-cache"  # not no-store, so that going back to the page is instant
    compress(request, answer)  # nothing in it is the reader's own, so its length tells nothing
    return answer
