"""manage.py create_client: a new caller with its own keys."""

from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, no_translations
from django.db import transaction

from access import clients
from access.management.arguments import check_label, in_words
from access.models import Client, Scope, usual_scopes


def amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    if not value.is_finite():
        raise ValueError
    return value


class Command(BaseCommand):
    help = (
        "Creates a client: a program, a team or a channel that calls with keys of its own and owns its sessions. With "
        "--key it gets its first key, which is printed once, alone on standard output; all else goes to standard error."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what it is called; no other client has the same name")
        parser.add_argument("--contact", default="", help="whom to ask about it")
        parser.add_argument("--notes", default="")
        parser.add_argument(
            "--scope", action="append", choices=Scope.values, dest="scopes", metavar="SCOPE",
            help=f"what its keys may do, once for each: {', '.join(Scope.values)}. "
            f"Without it: {', '.join(usual_scopes())}.",
        )  # fmt: skip
        for name in clients.LIMITS:
            cost = name == "cost_per_month"
            parser.add_argument(
                f"--{name.replace('_', '-')}", type=amount if cost else int, metavar="USD" if cost else "NUMBER",
                help=f"without it: what OWNER_{name.upper()} says; 0: no limit",
            )  # fmt: skip
        parser.add_argument("--key", nargs="?", const="", metavar="LABEL", help="also create a key, with this label")

    @no_translations
    def handle(self, *args: Any, name: str, key: str | None, **options: Any) -> None:
        fields = {field: options[field] for field in ("contact", "notes", *clients.LIMITS)}
        if key is not None:
            check_label(key)
        client = Client(name=name, scopes=options["scopes"] or usual_scopes(), **fields)
        with transaction.atomic():
            try:
                client.full_clean()
            except ValidationError as problem:
                raise CommandError(in_words(problem)) from None
            clients.create(client, clients.COMMAND)
            whole = "" if key is None else clients.new_key(client, clients.COMMAND, key)[1]
        message = f"Created the client {client.name} ({client.owner}): {', '.join(client.scopes)}."
        self.stderr.write(message, self.style.SUCCESS)
        if whole:
            self.stderr.write("Its key is shown only now:", self.style.SUCCESS)
            self.stdout.write(whole)
