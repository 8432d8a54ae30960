"""The kinds of greed."""

from trials.torture.greedy import line
from trials.torture.greedy.target import Flood

FLOODS: dict[str, Flood] = {
    "3,005 messages to one busy session": line.flood,
}
