from django.urls import re_path

from sessions_api.views import SessionIdsViewSet, SessionsViewSet

urlpatterns = [
    re_path(r"^api/sessions/?$", SessionIdsViewSet.as_view({"get": "list"}), name="session-ids"),
    re_path(r"^api/sessions/(?P<session_id>[^/]+)/?$", SessionsViewSet.as_view({"delete": "destroy"})),
    re_path(r"^sessions/?$", SessionsViewSet.as_view({"get": "list"}), name="sessions"),
    re_path(
        r"^sessions/(?P<session_id>[^/]+)/?$",
        SessionsViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="session",
    ),
    re_path(r"^sessions/(?P<session_id>[^/]+)/messages/?$", SessionsViewSet.as_view({"get": "messages"})),
]
