"""Tells the audit log who came to the admin, who left it, who tried in vain, and who is kept out for a while."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from access import audit
from bancobot_project.admin_config import locked_out
from bancobot_project.door import who_is


def connect() -> None:
    user_logged_in.connect(logged_in)
    user_logged_out.connect(logged_out)
    user_login_failed.connect(login_failed)
    locked_out.connect(was_locked_out)


def logged_in(sender: Any, request: HttpRequest, user: Any, **more: Any) -> None:
    _tell(audit.Action.LOGIN, request, f"staff:{user.get_username()}")


def logged_out(sender: Any, request: HttpRequest, user: Any, **more: Any) -> None:
    if user is not None:
        _tell(audit.Action.LOGOUT, request, f"staff:{user.get_username()}")


def login_failed(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **more: Any) -> None:
    _tell(audit.Action.LOGIN_FAILED, request, attempted(credentials.get("username")))


def was_locked_out(sender: Any, request: HttpRequest, username: str, **more: Any) -> None:
    _tell(audit.Action.LOGIN_LOCKED, request, attempted(username))


def attempted(username: str | None) -> str:
    """The user who was tried; empty where there is none: what was typed may be a password in the wrong field."""
    who = who_is(username or "")
    return who if who.startswith("staff:") else ""


def _tell(action: str, request: HttpRequest | None, who: str) -> None:
    audit.record(action, who[:160], address=audit.address_of(request) if request else "")
