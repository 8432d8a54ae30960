from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Holds the serve command."""

    name = "bancobot_project"
