"""`python -m trials.bench.search`: how long a search takes with 10^6 messages, on both databases.

50,000 sessions of 20 messages: of one owner with nearly all, one with 3,000, and 1,000 with one each. The texts are
made of 30,000 words, as unequally frequent as those of a language. It times the migration that makes the index, and
the first page of each search.
"""

import argparse
import tempfile
from pathlib import Path

from trials.bench import databases


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trials.bench.search", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--sessions", type=int, default=50_000, help="of 20 messages each (default: 50,000)")
    options = parser.parse_args()
    code = f"from trials.bench.document.words import main; main({options.sessions})"
    with tempfile.TemporaryDirectory(prefix="bancobot-bench-") as directory:
        for database in databases.each(options.database, Path(directory)):
            databases.run_inside(code, database, Path(directory))


if __name__ == "__main__":
    main()
