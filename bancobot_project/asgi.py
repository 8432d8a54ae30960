"""The ASGI application; server/application.py defines it."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bancobot_project.settings")
django.setup()

from bancobot_project.server.application import Application  # noqa: E402 - its imports need the apps

application = Application()
