"""Errors outside of DRF's views: as JSON for programs, and as a page for people in the admin."""

import json

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from access.admin_site import site
from web import errors
from web.errors import ApiError, in_language_of, json_error


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return readable(request, errors.bad_request(request, exception))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return readable(request, errors.permission_denied(request, exception))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return readable(request, errors.page_not_found(request, exception))


def server_error(request: HttpRequest) -> HttpResponse:
    return readable(request, errors.server_error(request))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django logs the reason."""
    return readable(request, json_error(request, ApiError("permission_denied", detail_code="stale_form")))


def readable(request: HttpRequest, answer: HttpResponse) -> HttpResponse:
    """The answer's content as a page, if a browser opens one of the admin's addresses.

    It is rendered without the request: who is logged in is in the database, which may be what fails.
    """
    if not request.path_info.startswith("/admin/") or "text/html" not in request.headers.get("Accept", ""):
        return answer
    said = json.loads(answer.content)
    context = {"site_header": site.site_header, "site_title": site.site_title, "user": AnonymousUser(), "said": said}
    with in_language_of(request):
        answer.content = render_to_string("admin/error.html", context | {"title": said["detail"]}).encode()
    answer["Content-Type"] = "text/html; charset=utf-8"
    return answer
