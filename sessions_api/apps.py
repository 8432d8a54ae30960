from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SessionsApiConfig(AppConfig):
    name = "sessions_api"
    verbose_name = _("Conversations")
