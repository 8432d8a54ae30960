"""manage.py create_key: another key for a client."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, no_translations

from access import clients
from access.management.arguments import check_label, client_called, end_of


class Command(BaseCommand):
    help = (
        "Creates a key for a client and prints it once, alone on standard output; all else goes to standard error. "
        "Nobody can show it again: a hash is all that is kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("client", help="its name or its id")
        parser.add_argument("--label", default="", help="to tell it from the client's other keys")
        parser.add_argument(
            "--expires", metavar="WHEN", help="12h, 90d, 52w, a day (to its end in UTC) or a moment; without it: never"
        )

    @no_translations
    def handle(self, *args: Any, client: str, label: str, expires: str | None, **options: Any) -> None:
        check_label(label)
        expires_at = None if expires is None else end_of(expires)
        owner = client_called(client)
        _key, whole = clients.new_key(owner, clients.COMMAND, label, expires_at)
        until = f"expires at {expires_at:%Y-%m-%d %H:%M} UTC" if expires_at else "does not expire"
        self.stderr.write(f"A key for {owner.name}; it {until} and is shown only now:", self.style.SUCCESS)
        if not owner.is_active:
            self.stderr.write("The client is not active: the key is refused until it is.")
        self.stdout.write(whole)
