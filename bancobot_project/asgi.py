"""The ASGI application; see application.py for what it is made of."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bancobot_project.settings")
django.setup()

from bancobot_project.server.application import Application  # noqa: E402 - its imports need the apps

application = Application()
