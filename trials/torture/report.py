"""The campaign's results: some lines for the terminal, and a Markdown report between two markers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trials.torture.base import Finding

BEGIN = "<!-- Figures of `make torture`: what stands between the markers is rewritten -->"
END = "<!-- End of the figures -->"
MAX_SHOWN = 10  # problems per finding
PROMISES = {
    "1": "What was acknowledged survives `kill -9` of any process at any moment",
    "2": "A turn that a crash left unfinished is marked `interrupted`, with what text had come, within 10 s",
    "3": "What has gone upstream is never sent again on its own",
    "4": "One `Idempotency-Key`: one turn, one upstream call, one answer",
    "5": "Two messages at once to one session are taken one after the other, or refused",
    "6": "A client that leaves loses nothing: the reply is finished and stored",
    "7": "A stream can be taken up again from any event, on any worker",
    "8": "A stop or restart ends no reply within the grace period, and loses nothing",
    "9": "Every upstream fault gives its own error; no truncated reply is called complete",
    "10": "A request is repeated only where the upstream had not accepted it: at most twice, and at most three times "
    "without what it refused by name",
    "11": "With the provider down callers fail fast, and it is not hammered",
    "12": "No “database is locked”",
    "13": "Database connections do not grow with turns in flight",
    "14": "A database restart, a held lock or a full disk costs errors in JSON, and no acknowledged message",
    "15": "Disconnects leave no trace",
    "22": "Erasing a session leaves no trace of its text",
    "23": "One caller's failing model or key harms nobody else",
}


@dataclass
class Result:
    """What one step found on one database."""

    step: str
    database: str
    seconds: float
    findings: Sequence[Finding]


def lines(result: Result) -> str:
    """For the terminal."""
    head = f"{result.database} {result.step} ({result.seconds:.0f} s)"
    return "\n".join([head, *(line for finding in result.findings for line in _finding_lines(finding))])


def _finding_lines(finding: Finding) -> list[str]:
    return [
        f"  {verdict(finding):7}{finding.promise}: {finding.what} ({figures(finding)})",
        *problems(finding, "      "),
    ]


def verdict(finding: Finding) -> str:
    return "BROKEN" if finding.problems else "kept"


def figures(finding: Finding) -> str:
    return ", ".join(f"{name}: {_number(value)}" for name, value in finding.figures.items())


def _number(value: int | float | str) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def problems(finding: Finding, before: str) -> list[str]:
    more = len(finding.problems) - MAX_SHOWN
    rest = [f"{before}… and {more} more"] if more > 0 else []
    return [before + problem for problem in finding.problems[:MAX_SHOWN]] + rest


def write(path: Path, text: str) -> None:
    """Replaces the text between the markers; a file without them gets the figures at its end."""
    old = path.read_text() if path.exists() else "# Reliability\n"
    before, begin, rest = old.partition(BEGIN)
    after = rest.partition(END)[2] if begin else "\n"
    path.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n{END}{after}")


def render(results: Sequence[Result], machine: Sequence[tuple[str, str]], command: str) -> str:
    minutes = sum(result.seconds for result in results) / 60
    databases = list(dict.fromkeys(result.database for result in results))
    parts = [
        f"Command: `{command}`. It took {minutes:.1f} minutes.",
        table(("machine", ""), machine),
        table(("", "promise", *databases), _promise_rows(results, databases)),
        *(_step_section(name, results) for name in dict.fromkeys(result.step for result in results)),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marked = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in marked)


def _promise_rows(results: Sequence[Result], databases: Sequence[str]) -> list[list[str]]:
    """Each promise's verdict on each database: broken if any of its findings is."""
    found = {(finding.promise, result.database): "" for result in results for finding in result.findings}
    for result in results:
        for finding in result.findings:
            place = finding.promise, result.database
            found[place] = "**broken**" if finding.problems or "broken" in found[place] else "kept"
    promises = sorted({promise for promise, _ in found}, key=lambda name: (len(name), name))
    return [
        [name, PROMISES.get(name, ""), *(found.get((name, database), "") for database in databases)]
        for name in promises
    ]


def _step_section(name: str, results: Sequence[Result]) -> str:
    rows = [
        [finding.promise, result.database, finding.what, figures(finding), verdict(finding)]
        for result in results
        for finding in result.findings
        if result.step == name
    ]
    broken = [
        line
        for result in results
        for finding in result.findings
        if result.step == name
        for line in problems(finding, f"- {result.database}, promise {finding.promise}: ")
    ]
    shown = table(("promise", "database", "what", "figures", ""), rows)
    return f"### {name}\n\n{shown}" + ("\n\n" + "\n".join(broken) if broken else "")
