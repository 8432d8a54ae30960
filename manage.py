#!/usr/bin/env python
"""Django's command line."""

import io
import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import Error as DatabaseProblem

from bancobot_project.database.problems import explain, is_unusable
from web.redaction import masked


def write_utf8() -> None:
    """Windows would write into files and pipes in a code page, which lacks most of the world's letters."""
    for stream in (sys.stdout, sys.stderr):
        if sys.platform == "win32" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def main() -> None:
    write_utf8()
    sys.stderr = masked(sys.stderr)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bancobot_project.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as problem:  # a setting that means nothing: its own sentence says all
        sys.exit(f"{problem}")
    except DatabaseProblem as problem:
        if not is_unusable(problem):
            raise
        sys.exit(explain(problem))


if __name__ == "__main__":
    main()
