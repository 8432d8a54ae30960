"""The steps that play clients, for steps.py."""

from torture.base import Step
from torture.clients_circuit import circuit
from torture.clients_erasure import erasure
from torture.clients_keys import keys
from torture.clients_order import pairs
from torture.clients_streams import cuts, drops
from torture.clients_traces import disconnects, in_flight
from torture.clients_weather import faults

STEPS: dict[str, Step] = {
    "keys": keys,
    "pairs": pairs,
    "drops": drops,
    "cuts": cuts,
    "faults": faults,
    "circuit": circuit,
    "in_flight": in_flight,
    "disconnects": disconnects,
    "erasure": erasure,
}
