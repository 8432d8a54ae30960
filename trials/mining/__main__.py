"""`make mining`: a swarm talks to the real service, and pm4py reads the event logs."""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from testing.client import Caller, good
from testing.service import Service

CASES, TURNS = 30, 4
STARTS_AT = datetime(2025, 12, 24, 9, 0, tzinfo=UTC)
QUESTIONS = ("Quais são as tarifas?", "E o Pix?", "Qual é o limite do cartão?", "Obrigado!")
LOGS = (("xes", "real"), ("events", "real"), ("xes", "simulated"), ("events", "simulated"))


def main(python: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder), settings={"LLM_PROVIDER": "demo"})
        try:
            service.start()
            with ThreadPoolExecutor(8) as swarm:
                list(swarm.map(lambda number: talk(service, number), range(CASES)))
            files = [export(service, name, clock) for name, clock in LOGS]
        finally:
            service.close()
        answer = subprocess.run(
            [python, "trials/mining/reader.py", *files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
    return judge([json.loads(line) for line in answer.stdout.decode().splitlines()])


def talk(service: Service, number: int) -> None:
    """One customer's conversation, an hour after the one before and with a minute between questions, as simulated."""
    caller, session = Caller(service, key=""), f"cliente-{number}"
    for turn in range(TURNS):
        when = STARTS_AT + timedelta(hours=number, minutes=turn)
        body = {"message": QUESTIONS[turn], "session_id": session, "persona_id": f"persona-{number % 3}"}
        good(caller.post("/api/message", **body, timing_metadata={"simulated_timestamp": when.isoformat()}))


def export(service: Service, name: str, clock: str) -> str:
    file = service.directory / f"{clock}.{'xes' if name == 'xes' else 'csv'}"
    done = service.manage("export_sessions", "--format", name, "--clock", clock, "--output", str(file))
    assert done.returncode == 0, done.stderr
    return str(file)


def judge(logs: list[dict[str, Any]]) -> int:
    """Returns 0 if each log has every case and event, XES and CSV agree, and the simulated times are the swarm's."""
    for (name, clock), log in zip(LOGS, logs, strict=True):
        told = ", ".join(f"{pair}: {count}" for pair, count in log["follows"].items())
        sys.stdout.write(f"pm4py {log['version']}, {name} by the {clock} clock: {log['cases']} cases, ")
        sys.stdout.write(f"{log['events']} events from {log['first']} to {log['last']}; {told}\n")
    question, reply = "Cliente envia mensagem", "BancoBot responde"
    follows = {f"{question} → {reply}": CASES * TURNS, f"{reply} → {question}": CASES * (TURNS - 1)}
    well = all((log["cases"], log["events"], log["follows"]) == (CASES, 2 * CASES * TURNS, follows) for log in logs)
    well = well and logs[0] == logs[1] and logs[2] == logs[3] and logs[2]["first"] == STARTS_AT.isoformat()
    sys.stdout.write("All as it should be.\n" if well else "SOMETHING IS MISSING.\n")
    return int(not well)


sys.exit(main(sys.argv[1]))
