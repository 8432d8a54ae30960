"""manage.py migrate: Django's, one at a time, and with a sentence where the database can't be used."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import Error as DatabaseProblem

from bancobot_project.database import requirements, updates
from bancobot_project.database.problems import explain


class Command(migrate.Command):
    def execute(self, *args: Any, **options: Any) -> Any:
        """Checks the database before Django checks the code, which connects too."""
        try:
            requirements.check_before_updates()
            with updates.alone():
                return super().execute(*args, **options)
        except ImproperlyConfigured as problem:
            raise CommandError(str(problem)) from problem
        except DatabaseProblem as problem:
            raise CommandError(explain(problem)) from problem

    def handle(self, *args: Any, **options: Any) -> None:
        requirements.check_rights_to_update()
        super().handle(*args, **options)
