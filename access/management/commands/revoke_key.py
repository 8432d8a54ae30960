"""manage.py revoke_key: refuse a key from now on."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, no_translations

from access import clients
from access.models import Key


class Command(BaseCommand):
    help = (
        "Revokes a key: within a second it is refused by every worker, and within five what listens with it is ended. "
        "There is no way back. To shut out all keys of a client, make it inactive in the admin."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "key", help="its identifier as list_keys shows it, with or without bb_; or all of it, if it was found"
        )

    @no_translations
    def handle(self, *args: Any, key: str, **options: Any) -> None:
        identifier = clients.identifier_in(key)
        found = Key.objects.select_related("client").filter(identifier=identifier).first()
        if found is None:  # the argument may be a secret: do not repeat it
            raise CommandError("There is no such key. list_keys --all names those that exist.")
        revoked = clients.revoke(found, clients.COMMAND)
        name = f"{clients.public_name(found)} of {found.client.name}"
        self.stdout.write(f"Revoked {name}." if revoked else f"{name} had been revoked before.")
