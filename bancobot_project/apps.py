from django.apps import AppConfig
from django.db.backends.signals import connection_created

from bancobot_project.database.poolers import beware_of_poolers


class ProjectConfig(AppConfig):
    """Holds the commands serve and migrate."""

    name = "bancobot_project"

    def ready(self) -> None:
        connection_created.connect(beware_of_poolers)
