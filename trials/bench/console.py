"""`python -m trials.bench.console`: how long the operator's overview takes with 10^6 messages, on both databases.

500,000 turns of the last 30 days, of 200 clients and 10 models; once in 20,000 sessions, once in 250,000. It times the
counting of them all, and each page as Django's test client gets it: login, rights, queries and template.
"""

import argparse
import tempfile
from pathlib import Path

from trials.bench import databases

SESSIONS = (20_000, 250_000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trials.bench.console", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--sessions", type=int, action="append", help=f"default: {SESSIONS}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bancobot-bench-") as directory:
        for sessions in options.sessions or SESSIONS:
            code = f"from trials.bench.pages import main; main({sessions})"
            for database in databases.each(options.database, Path(directory)):
                databases.run_inside(code, database, Path(directory))


if __name__ == "__main__":
    main()
