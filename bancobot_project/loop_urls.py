"""The addresses whose requests stay on the event loop (see server/application.py)."""

from django.urls import include, path, re_path

from bancobot_project.health import HealthViewSet

urlpatterns = [
    path("", include("chat.urls")),
    re_path(r"^health/?$", HealthViewSet.as_view({"get": "retrieve"}), name="health"),
]
