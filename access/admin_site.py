"""Django's admin with a login throttle; logins are written to the audit log."""

import logging
import math
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from access import audit, login_throttle


class LoginForm(AdminAuthenticationForm):
    def confirm_login_allowed(self, user: Any) -> None:
        """The right password of a user who may not enter the admin is a failed login too."""
        try:
            super().confirm_login_allowed(user)
        except ValidationError:
            user_login_failed.send(__name__, credentials={"username": user.get_username()}, request=self.request)
            raise


class Site(AdminSite):
    """Limits login attempts, and has the operator's pages beside those of the models: add them to `pages`."""

    login_form = LoginForm
    site_header = site_title = "BancoBot"
    index_title = _("Operation")
    site_url = None
    enable_nav_sidebar = False  # there are few models, and the list of sessions is wide

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[URLPattern] = []

    def get_urls(self) -> list[URLResolver | URLPattern]:
        return [*self.pages, *super().get_urls()]

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        """None of the forms needs it, and it would list records by text that no audit log shows."""
        raise Http404

    @method_decorator(sensitive_post_parameters())
    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method != "POST":
            return super().login(request, extra_context)
        name = request.POST.get("username", "")
        if seconds := login_throttle.attempt(request, name):
            return self.locked(request, seconds)
        response = super().login(request, extra_context)
        if response.status_code == 302:  # not `request.user`: who was logged in before may have failed now
            login_throttle.reset(request, name)
            login_throttle.log(logging.INFO, "login", request, name)
            return response
        login_throttle.log(logging.WARNING, "login failed", request, name)
        if login_throttle.locked_for(request, name):
            login_throttle.log(logging.WARNING, "login locked", request, name)
            record_login(audit.Action.LOGIN_LOCKED, request, attempted(name))
        return response

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """It asks for the old password, so the attempts count as those of the login do."""
        name = request.user.get_username()
        if request.method != "POST" or not name:
            return super().password_change(request, extra_context)
        if seconds := login_throttle.attempt(request, name):
            return self.locked(request, seconds)
        response = super().password_change(request, extra_context)
        if response.status_code == 302:
            login_throttle.reset(request, name)
            who, where = audit.staff(request), audit.address_of(request)
            audit.record(audit.Action.USER_CHANGED, who, target=f"user:{name}", address=where, fields=["password"])
        else:
            login_throttle.log(logging.WARNING, "old password wrong", request, name)
        return response

    def locked(self, request: HttpRequest, seconds: float) -> TemplateResponse:
        context = {
            **self.each_context(request),
            "title": _("Too many wrong passwords"),
            "minutes": math.ceil(seconds / 60),
        }
        headers = {"Retry-After": str(math.ceil(seconds))}
        return TemplateResponse(request, "admin/locked.html", context, status=429, headers=headers)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        name = request.user.get_username()
        response = super().logout(request, extra_context)
        if name and response.status_code == 200:  # a GET does nothing, since any page can cause one
            login_throttle.log(logging.INFO, "logout", request, name)
        return response


site = Site()


@receiver(user_logged_in)
def logged_in(sender: Any, request: HttpRequest, user: Any, **more: Any) -> None:
    record_login(audit.Action.LOGIN, request, f"staff:{user.get_username()}")


@receiver(user_logged_out)
def logged_out(sender: Any, request: HttpRequest, user: Any, **more: Any) -> None:
    if user is not None:
        record_login(audit.Action.LOGOUT, request, f"staff:{user.get_username()}")


@receiver(user_login_failed)
def login_failed(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **more: Any) -> None:
    record_login(audit.Action.LOGIN_FAILED, request, attempted(credentials.get("username")))


def attempted(username: str | None) -> str:
    """The user whose login was attempted; empty if there is none: the name may be a password in the wrong field."""
    who = login_throttle.who_is(username or "")
    return who if who.startswith("staff:") else ""


def record_login(action: str, request: HttpRequest | None, who: str) -> None:
    audit.record(action, who[:160], address=audit.address_of(request) if request else "")
