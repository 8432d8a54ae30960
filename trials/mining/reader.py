"""Runs in pm4py's own environment: prints its findings, a JSON object for each named file."""

import json
import sys
from typing import Any

import pandas
import pm4py


def log_in(path: str) -> Any:
    if path.endswith(".xes"):
        return pm4py.read_xes(path)
    return pm4py.format_dataframe(
        pandas.read_csv(path),
        case_id="CASE_ID",
        activity_key="ACTIVITY",
        timestamp_key="END_TIMESTAMP",
        start_timestamp_key="START_TIMESTAMP",
    )


def found(path: str) -> dict[str, Any]:
    log = log_in(path)
    graph, starts, ends = pm4py.discover_dfg(log)
    return {
        "version": pm4py.__version__,
        "cases": log["case:concept:name"].nunique(),
        "events": len(log),
        "follows": {f"{before} → {after}": count for (before, after), count in sorted(graph.items())},
        "starts": starts,
        "ends": ends,
        "first": log["start_timestamp"].min().isoformat(),
        "last": log["time:timestamp"].max().isoformat(),
    }


for name in sys.argv[1:]:
    sys.stdout.write(json.dumps(found(name), ensure_ascii=False) + "\n")
