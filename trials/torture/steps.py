"""The campaign's steps by name, in the order in which they run."""

from trials.torture.base import Step
from trials.torture.clients.steps import STEPS as CLIENT_STEPS
from trials.torture.crashes import crashes
from trials.torture.greedy.step import greedy
from trials.torture.load import lock_errors
from trials.torture.rolling import rolling
from trials.torture.stopping import stop
from trials.torture.weather import database_weather

STEPS: dict[str, Step] = {
    "crashes": crashes,
    "stop": stop,
    "rolling": rolling,
    "lock_errors": lock_errors,
    "database_weather": database_weather,
    **CLIENT_STEPS,
    "greedy": greedy,
}
