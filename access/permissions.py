"""Which scope a view asks for."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from access.callers import caller_of


class HasScope(BasePermission):
    """Raises `ApiError` unless the caller has one of the scopes that the view names for its action.

    A view that names none for an action fails: nothing is open because somebody forgot it. `scopes` maps an action to
    the scopes of which one is enough; an empty tuple leaves it to the view.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if view.action not in (None, "metadata"):  # else there is no such method here, which is answered elsewhere
            scopes = view.scopes[view.action]
            if scopes and not caller_of(request).scopes.intersection(scopes):
                caller_of(request).require(scopes[0])
        return True
