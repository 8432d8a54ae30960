"""Django's admin behind a door that can be knocked at so often and no more."""

import logging
import math
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from access import audit
from bancobot_project import door
from bancobot_project.admin_config import locked_out
from sessions_api.console import pages


class LoginForm(AdminAuthenticationForm):
    def confirm_login_allowed(self, user: Any) -> None:
        """A right password of somebody who may not enter is a failure too."""
        try:
            super().confirm_login_allowed(user)
        except ValidationError:
            user_login_failed.send(__name__, credentials={"username": user.get_username()}, request=self.request)
            raise


class Site(AdminSite):
    """Where passwords are looked at; with the operator's pages beside those of the models."""

    login_form = LoginForm

    def get_urls(self) -> list[URLResolver | URLPattern]:
        return [
            path("overview/", self.admin_view(pages.overview_page), name="overview"),
            path("running/", self.admin_view(pages.running_page), name="running"),
            path("running/<str:turn_id>/cancel/", self.admin_view(pages.cancel_view), name="running_cancel"),
            *super().get_urls(),
        ]

    @method_decorator(sensitive_post_parameters())
    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method != "POST":
            return super().login(request, extra_context)
        name = request.POST.get("username", "")
        if seconds := door.admit(request, name):
            return self.locked(request, seconds)
        response = super().login(request, extra_context)
        if response.status_code == 302:  # whoever was logged in before may have failed now
            door.forgive(request, name)
            door.log(logging.INFO, "login", request, name)
            return response
        door.log(logging.WARNING, "login failed", request, name)
        if door.locked_for(request, name):
            door.log(logging.WARNING, "login locked", request, name)
            locked_out.send(Site, request=request, username=name)
        return response

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The old password is asked for here: it can be tried as often as at the door."""
        name = request.user.get_username()
        if request.method != "POST" or not name:
            return super().password_change(request, extra_context)
        if seconds := door.admit(request, name):
            return self.locked(request, seconds)
        response = super().password_change(request, extra_context)
        if response.status_code == 302:
            door.forgive(request, name)
            who, where = audit.staff(request), audit.address_of(request)
            audit.record(audit.Action.USER_CHANGED, who, target=f"user:{name}", address=where, fields=["password"])
        else:
            door.log(logging.WARNING, "old password wrong", request, name)
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
        if name and response.status_code == 200:  # a GET, which any page can bring about, does nothing
            door.log(logging.INFO, "logout", request, name)
        return response
