"""`python -m trials.fuzz`: sends generated requests to a service until the requested number of cases."""

import argparse
import secrets
import signal
import sys
import tempfile
from pathlib import Path

from testing.databases import DATABASES, database, end
from trials.fuzz.run import PASSES, serving, try_service


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trials.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="at least so many on each database")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="of the first round (default: random)"
    )
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both")
    return parser.parse_args()


def fuzz(kind: str, cases: int, seed: int) -> bool:
    """Rounds of both passes, each with the next seed and new services. Returns whether all was well."""
    done = 0
    while done < cases:
        for name, how in PASSES.items():
            with tempfile.TemporaryDirectory(prefix="bancobot-") as scratch, serving(Path(scratch), how) as service:
                found = try_service(service, how, seed, examples=max(1, cases // 60))
            done += found.cases
            print(f"{kind} {name} seed={seed}: {found.cases:,} cases in {found.seconds:.0f} s", flush=True)
            if found.problems:
                print(found.problems)
                return False
        seed += 1
    print(f"{kind}: {done:,} cases, no server error, no answer that the schema does not describe", flush=True)
    return True


def main() -> int:
    arguments = parse_arguments()
    print(f"seed {arguments.seed}", flush=True)
    for kind in DATABASES if arguments.database == "both" else (arguments.database,):
        with database(kind):
            if not fuzz(kind, arguments.cases, arguments.seed):
                return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)  # so that the processes are stopped then, too
    sys.exit(main())
