"""The addresses whose requests stay on the event loop (see bancobot_project/server/application.py)."""

from django.urls import re_path

from chat.turns import ModelsViewSet, TurnsViewSet
from chat.views import ChatViewSet, MessageViewSet

TURN = "turns/(?P<turn_id>[A-Za-z0-9_-]{1,64})"

urlpatterns = [
    re_path(r"^api/message/?$", MessageViewSet.as_view({"post": "create"}), name="message"),
    re_path(r"^chat/?$", ChatViewSet.as_view({"post": "create"}), name="chat"),
    re_path(rf"^{TURN}/?$", TurnsViewSet.as_view({"get": "retrieve"}), name="turn"),
    re_path(rf"^{TURN}/events/?$", TurnsViewSet.as_view({"get": "events"}), name="turn-events"),
    re_path(rf"^{TURN}/cancel/?$", TurnsViewSet.as_view({"post": "cancel"}), name="turn-cancel"),
    re_path(r"^models/?$", ModelsViewSet.as_view({"get": "list"}), name="models"),
]
