"""/schema, /docs and /redoc. Their pages load nothing from any other host."""

from typing import Any

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
from rest_framework.response import Response
from rest_framework.views import APIView

from bancobot_project.schema import document

# ReDoc searches in a worker of its own making and would show its maker's logo; both pages write styles.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' "
    "data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class BrowserYaml(OpenApiYamlRenderer):
    """For browsers, which know no YAML and would save it as a file."""

    media_type = "text/html"
    shown_as = "text/plain; charset=utf-8"


class SchemaView(APIView):
    """The OpenAPI document as JSON or YAML: what ?format= or the Accept header says, and JSON for who doesn't mind."""

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
    def get(self, request: Request) -> Response:
        renderer: Any = request.accepted_renderer
        name = f'inline; filename="bancobot.{renderer.format}"'
        content_type = getattr(renderer, "shown_as", None)
        return Response(document(), headers={"Content-Disposition": name}, content_type=content_type)


class OwnAssetsOnly(APIView):
    """A page that the browser itself keeps from asking any other host for anything."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response


class SwaggerView(OwnAssetsOnly, SpectacularSwaggerSplitView):
    """Swagger UI. The library's own script would set a CSRF cookie, for which the API has no use."""

    template_name_js = "docs/swagger_ui.js"


class RedocView(OwnAssetsOnly, SpectacularRedocView):
    """ReDoc."""

    template_name = "docs/redoc.html"
