from django.urls import re_path

from sessions_api.api.exports import ExportViewSet
from sessions_api.api.views import FeedbackViewSet, SessionIdsViewSet, SessionsViewSet

SESSION = "sessions/(?P<session_id>[^/]+)"

urlpatterns = [
    re_path(r"^sessions/?$", SessionsViewSet.as_view({"get": "list"}), name="sessions"),
    re_path(
        rf"^{SESSION}/?$",
        SessionsViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
        name="session",
    ),
    re_path(rf"^{SESSION}/fork/?$", SessionsViewSet.as_view({"post": "fork"})),
    re_path(r"^messages/(?P<message_id>[^/]+)/feedback/?$", FeedbackViewSet.as_view({"post": "create"})),
    re_path(rf"^{SESSION}/messages/?$", SessionsViewSet.as_view({"get": "messages"})),
    re_path(rf"^{SESSION}/export/?$", ExportViewSet.as_view({"get": "retrieve"})),
    re_path(r"^api/sessions/?$", SessionIdsViewSet.as_view({"get": "list"}), name="session-ids"),
    re_path(rf"^api/{SESSION}/?$", SessionIdsViewSet.as_view({"delete": "destroy"})),
]
