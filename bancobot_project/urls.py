"""Every address. With and without a trailing slash both work, without a redirect."""

from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView

from bancobot_project.health import health

handler400 = "bancobot_project.errors.bad_request"
handler403 = "bancobot_project.errors.permission_denied"
handler404 = "bancobot_project.errors.page_not_found"
handler500 = "bancobot_project.errors.server_error"

urlpatterns = [
    path("", include("chat.urls")),
    path("", include("sessions_api.urls")),
    re_path(r"^health/?$", health, name="health"),
    re_path(r"^schema/?$", SpectacularAPIView.as_view(), name="schema"),
    re_path(r"^docs/?$", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    re_path(r"^redoc/?$", SpectacularRedocView.as_view(url_name="schema"), name="redoc"),
    path("admin/", admin.site.urls),
]
