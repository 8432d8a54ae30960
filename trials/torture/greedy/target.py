"""Where a greedy caller sends its requests."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    url: str  # of the service, without a slash at its end
    headers: Mapping[str, str]  # the caller's key


Flood = Callable[[Target], Coroutine[Any, Any, None]]  # goes on until it is cancelled
