from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _

from sessions_api.sqlite import keep_private


class SessionsApiConfig(AppConfig):
    name = "sessions_api"
    verbose_name = _("Conversations")

    def ready(self) -> None:
        connection_created.connect(keep_private)
