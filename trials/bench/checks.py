"""Compares answers, upstream requests and stored rows: every turn exactly once in each."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from trials.bench.load import CallCounts

EXCEPTION = re.compile(r"[\w.]+(Error|Exception)\b")  # the last line of a traceback
Counts = Mapping[tuple[str, str], int]  # messages by role and status


def total(tallies: Iterable[CallCounts]) -> CallCounts:
    """One tally of all; without the single turns and pieces."""
    whole = CallCounts()
    for tally in tallies:
        whole.acknowledged += tally.acknowledged
        whole.messages += tally.messages
        whole.unanswered += tally.unanswered
        whole.failures += tally.failures
    return whole


def told_problems(tally: CallCounts, calls: int, messages: int) -> list[str]:
    """The clients' answers against the upstream's requests."""
    problems = []
    if tally.failures:
        problems.append(f"{len(tally.failures)} turns failed, the first with: {tally.failures[0][:300]}")
    if tally.unanswered:
        problems.append(f"{tally.unanswered} turns unanswered long after the end")
    if not problems and calls != tally.acknowledged:
        problems.append(f"{tally.acknowledged} turns acknowledged, {calls} calls upstream")
    if not problems and messages != tally.messages:
        problems.append(f"{messages} messages sent upstream instead of {tally.messages}: not the history that was due")
    return problems


def logged_problems(log: str) -> list[str]:
    """A good answer with a complaint in the log is a problem too."""
    lines = log.splitlines()
    errors = [line for line in lines if "ERROR" in line or line.startswith("Traceback")]
    if not errors:
        return []
    raised = next((line for line in lines if EXCEPTION.match(line)), "no exception")
    return [f"{len(errors)} errors in the log, the first: {errors[0][:200]} ({raised[:200]})"]


def stored_problems(before: Counts, after: Counts, acknowledged: int) -> list[str]:
    """The clients' answers against the database's new rows."""
    expected = Counter({("user", "completed"): acknowledged, ("assistant", "completed"): acknowledged})
    gained = Counter(after)
    gained.subtract(before)
    if gained == expected:
        return []
    found = ", ".join(f"{count} {role} {status}" for (role, status), count in sorted(gained.items()) if count)
    return [f"{acknowledged} turns acknowledged, the database gained {found or 'nothing'}"]
