"""The campaign's steps by name, in the order in which they run."""

from torture import clients
from torture.base import Step
from torture.crashes import crashes
from torture.load import lock_errors
from torture.rolling import rolling
from torture.stopping import stop
from torture.weather import database_weather

STEPS: dict[str, Step] = {
    "crashes": crashes,
    "stop": stop,
    "rolling": rolling,
    "lock_errors": lock_errors,
    "database_weather": database_weather,
    **clients.STEPS,
}
