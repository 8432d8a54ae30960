"""`python -m trials.bench.search`: how long a search takes with 10^6 messages, on both databases.

50,000 sessions of 20 messages: of one owner with nearly all, one with 3,000, and 1,000 with one each. The texts are
made of 30,000 words, as unequally frequent as those of a language. It times the migration that makes the index, and
the first page of each search.
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

INSIDE = "import django; django.setup(); from trials.bench.document.words import main; main({sessions})"


def measure(url: str, scratch: Path, sessions: int) -> None:
    own = {
        "DJANGO_SETTINGS_MODULE": "bancobot_project.settings",
        "DATABASE_URL": url,
        "DATA_DIR": str(scratch),
        "ENV_FILE": os.devnull,
        "SECRET_KEY": secrets.token_urlsafe(50),
    }
    command = [sys.executable, "-c", INSIDE.format(sessions=sessions)]
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trials.bench.search", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--sessions", type=int, default=50_000, help="of 20 messages each (default: 50,000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bancobot-bench-") as directory:
        scratch = Path(directory)
        if options.database != "postgres":
            with databases.sqlite(scratch) as database:
                measure(database.url, scratch, options.sessions)
        if options.database != "sqlite":
            with databases.postgres_server() as server, databases.postgresql(server) as database:
                measure(database.url, scratch, options.sessions)


if __name__ == "__main__":
    main()
