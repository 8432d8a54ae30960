"""/schema, /docs and /redoc. Their pages load nothing from any other host."""

import threading
from functools import cache
from typing import Any

from django.http import HttpResponse
from django.utils import translation
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from web.responses import KeptAnswer, keep

# Swagger UI brings styles and scripts as files, and its icons as data.
SWAGGER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# ReDoc searches in a worker of its own making, and makes two kinds of style elements: empty ones, which it fills
# afterwards, and one for its scroll bars. A new version of it may bring another hash; the browser then names it.
REDOC_POLICY = SWAGGER_POLICY.replace(
    "style-src 'self'",
    "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='; worker-src blob:",
)


@cache
def document() -> dict[str, Any]:
    """The whole document: the same for every caller and in every language."""
    with translation.override("en"):
        return dict(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]


class DocumentIn:
    """The document in a format, made at its first use: that takes a moment, and YAML half a second."""

    def __init__(self) -> None:
        self._made: dict[str, KeptAnswer] = {}
        self._one_at_a_time = threading.Lock()

    def format(self, renderer: Any) -> KeptAnswer:
        with self._one_at_a_time:
            if renderer.format not in self._made:
                self._made[renderer.format] = keep(bytes(renderer.render(document())))
            return self._made[renderer.format]


document_in = DocumentIn()


class BrowserYaml(OpenApiYamlRenderer):
    """For browsers, which know no YAML and would save it as a file."""

    media_type = "text/html"
    shown_as = "text/plain; charset=utf-8"


class SchemaView(APIView):
    """The OpenAPI document as JSON or YAML, by ?format= or the Accept header; JSON by default."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    renderer_classes = (
        OpenApiJsonRenderer2,
        OpenApiJsonRenderer,
        OpenApiYamlRenderer2,
        OpenApiYamlRenderer,
        BrowserYaml,
    )

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        renderer: Any = request.accepted_renderer
        charset = f"; charset={renderer.charset}" if renderer.charset else ""
        content_type = getattr(renderer, "shown_as", renderer.media_type + charset)
        headers = {"Content-Disposition": f'inline; filename="bancobot.{renderer.format}"', "Vary": "Accept"}
        return document_in.format(renderer).response(request, content_type, **headers)


class OwnAssetsOnly(APIView):
    """A page that the browser itself keeps from asking any other host for anything."""

    policy: str

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Content-Security-Policy"] = self.policy
        return response


class SwaggerView(OwnAssetsOnly, SpectacularSwaggerSplitView):
    """Swagger UI. The library's own page has a style within, and its script would set a CSRF cookie."""

    policy = SWAGGER_POLICY
    template_name = "docs/swagger_ui.html"
    template_name_js = "docs/swagger_ui.js"


class RedocView(OwnAssetsOnly, SpectacularRedocView):
    """ReDoc. The library's own page has a style within, and asks another host for fonts."""

    policy = REDOC_POLICY
    template_name = "docs/redoc.html"
