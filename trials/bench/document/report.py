"""Writes the figures as Markdown between two markers, so that the prose around them stays; and the pictures."""

from collections.abc import Sequence
from pathlib import Path

from trials.bench.document import goals, pictures, sections
from trials.bench.load import CONVERSATION_TURNS
from trials.bench.results import Results

BEGIN = "<!-- Figures of `make bench`: what stands between the markers is rewritten -->"
END = "<!-- End of the figures -->"
DISTURBED = 0.1
METHOD = f"""\
Everything runs on one machine, on loopback. The service has one worker and a core to itself; the scripted upstream, the
load generator and the PostgreSQL server share the other cores. BancoBot stores every message before it answers (SQLite
in WAL mode with `synchronous=FULL`, or PostgreSQL with `fsync` and `synchronous_commit` on). The baseline is the usual
small chat back end: FastAPI on uvicorn, the sessions in a dict, one shared `httpx.AsyncClient`, plain JSON from the
upstream (streams are passed on line by line); it stores nothing. Its client has a time-out of ten minutes, no cap on
connections, and httpx's default of 20 idle ones: the settings that suited it best. Both log warnings only. BancoBot
reads the same reply as an event stream of ten pieces.

A client sends a message, waits for the reply, checks its text, and sends the next. It keeps a conversation for
{CONVERSATION_TURNS} turns and then begins another, so the history that goes upstream is 0 to 40 messages long, about 20
on average. Each run starts the service afresh on a database of its own. The runs of the contestants alternate; a ratio
compares runs that followed one another. After a run the checker compares what the clients were told, how many calls and
messages the upstream saw, and what the database has gained: exactly two completed messages per acknowledged turn. A
client of a stream checks that each piece came once and in order. A run in which anything is amiss is not counted; it is
listed as failed.

CPU time is that of all processes and threads of the service. Memory is measured at the end of a run, under
load; BancoBot has two processes (parent and worker), and a page that they share counts once."""
PARTS = (
    sections.throughput,
    sections.single,
    sections.in_flight,
    sections.streams,
    sections.history,
    sections.tables,
    sections.access,
    sections.profile,
)


def write(path: Path, text: str, results: Results) -> None:
    """Replaces the text between the markers; a file without them gets the figures at its end."""
    old = path.read_text() if path.exists() else "# Performance\n"
    before, begin, rest = old.partition(BEGIN)
    after = rest.partition(END)[2] if begin else "\n"
    path.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n{END}{after}")
    folder = path.parent / "performance"
    folder.mkdir(exist_ok=True)
    for name, chart in pictures.draw(results).items():
        (folder / name).write_text(chart.svg())


def render(results: Results, machine: Sequence[tuple[str, str]], command: str, notes: Sequence[str]) -> str:
    parts = [f"Command: `{command}`", sections.table(("machine", ""), machine), "## Method\n\n" + METHOD]
    if rows := goals.rows(results):
        parts.append("## Goals\n\n" + sections.table(("goal", "figure", ""), rows))
    parts += [part for section in PARTS for part in section(results)]
    if remarks := [*notes, *failures(results), *disturbances(results)]:
        parts.append("## Remarks\n\n" + "\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n"


def failures(results: Results) -> list[str]:
    return [f"Failed, not counted: {problem}" for _, problem in results.problems()]


def disturbances(results: Results) -> list[str]:
    return [
        f"Disturbed: {name}: other processes took {run.disturbance:.0%} of the service's core."
        for name, run in results.runs()
        if run.disturbance > DISTURBED
    ]
