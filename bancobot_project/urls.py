"""Every address. With and without a trailing slash both work, without a redirect."""

from django.urls import include, path, re_path
from django.views.generic import RedirectView

from access.admin_site import site
from bancobot_project.docs import RedocView, SchemaView, SwaggerView
from chat.pages import chat_page
from web.errors import page_not_found

handler400 = "bancobot_project.error_pages.bad_request"
handler403 = "bancobot_project.error_pages.permission_denied"
handler404 = "bancobot_project.error_pages.page_not_found"
handler500 = "bancobot_project.error_pages.server_error"

urlpatterns = [
    path("", include("bancobot_project.loop_urls")),
    path("", include("sessions_api.urls")),
    path("", chat_page, name="chat-page"),
    re_path(r"^schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^docs/?$", SwaggerView.as_view(url_name="schema"), name="docs"),
    re_path(r"^redoc/?$", RedocView.as_view(url_name="schema"), name="redoc"),
    path("admin/", site.urls),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),  # a common spelling
    re_path("", page_not_found),  # before Django's own page, which lists all addresses when DEBUG is on
]
