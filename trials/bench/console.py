"""`python -m trials.bench.console`: how long the operator's overview takes with 10^6 messages, on both databases.

500,000 turns of the last 30 days, of 200 clients and 10 models; once in 20,000 sessions, once in 250,000. It times the
counting of them all, and each page as Django's test client gets it: login, rights, queries and template.
"""

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from testing.environment import ROOT
from trials.bench import databases

INSIDE = "import django; django.setup(); from trials.bench.pages import main; main({sessions})"
SESSIONS = (20_000, 250_000)


def measure(url: str, scratch: Path, sessions: int) -> None:
    own = {
        "DJANGO_SETTINGS_MODULE": "bancobot_project.settings",
        "DATABASE_URL": url,
        "DATA_DIR": str(scratch),
        "ENV_FILE": os.devnull,
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "testserver",
    }
    command = [sys.executable, "-c", INSIDE.format(sessions=sessions)]
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trials.bench.console", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--sessions", type=int, action="append", help=f"default: {SESSIONS}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bancobot-bench-") as directory:
        scratch = Path(directory)
        for sessions in options.sessions or SESSIONS:
            if options.database != "postgres":
                with databases.sqlite(scratch) as database:
                    measure(database.url, scratch, sessions)
            if options.database != "sqlite":
                with databases.postgres_server() as server, databases.postgresql(server) as database:
                    measure(database.url, scratch, sessions)


if __name__ == "__main__":
    main()
