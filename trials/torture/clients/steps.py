"""The steps that play clients, for steps.py."""

from trials.torture.base import Step
from trials.torture.clients.circuit import circuit
from trials.torture.clients.erasure import erasure
from trials.torture.clients.keys import keys
from trials.torture.clients.misuse import misuse
from trials.torture.clients.model import model
from trials.torture.clients.order import pairs
from trials.torture.clients.refusals import refusals
from trials.torture.clients.streams import cuts, drops
from trials.torture.clients.traces import disconnects, in_flight
from trials.torture.clients.weather import faults

STEPS: dict[str, Step] = {
    "keys": keys,
    "pairs": pairs,
    "drops": drops,
    "cuts": cuts,
    "faults": faults,
    "refusals": refusals,
    "circuit": circuit,
    "misuse": misuse,
    "model": model,
    "in_flight": in_flight,
    "disconnects": disconnects,
    "erasure": erasure,
}
