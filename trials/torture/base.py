"""The arguments and results of a campaign's step."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testing.postgres import Server
from testing.service import Service, provider_settings
from testing.upstream import Upstream

FEW = 3  # the least count of a quick run


@dataclass
class World:
    """One kind of database. The seed and the step's name determine all random choices (`random`).

    `scale` 1.0 means the promise's figure; less is for a quick run.
    """

    database: str  # "sqlite" or "postgresql"
    directory: Path
    random: random.Random
    upstream: Upstream
    scale: float = 1.0
    server: Server | None = None  # of PostgreSQL
    options: Sequence[str] = ()  # of `serve`
    _services: list[Service] = field(default_factory=list)

    def service(self, *, workers: int = 1, beside: Service | None = None, **settings: str) -> Service:
        """A started service for the step, stopped after it; `beside` another one, on the same database.

        Only the first of the two answers `sql()`.
        """
        directory = self.directory / f"service-{len(self._services)}"
        directory.mkdir(parents=True)
        own = provider_settings(self.upstream.url) | settings
        service = Service(directory, workers=workers, options=self.options, settings=own)
        service.database_url = settings.get("DATABASE_URL", service.database_url)  # a SQLite file elsewhere
        if beside is not None:
            service.settings |= {name: beside.settings[name] for name in ("DATABASE_URL", "SECRET_KEY")}
        self._services.append(service)
        return service.start()

    def count(self, full: int) -> int:
        return min(full, max(FEW, round(full * self.scale)))

    @contextmanager
    def opened(self) -> Iterator["World"]:
        """The world for one step: a reset upstream, and no service left afterwards."""
        self.upstream.clear()
        try:
            yield self
        finally:
            for service in self._services:
                service.close()

    def logs(self) -> str:
        """The logs of all services of the step."""
        return "".join(service.log() for service in self._services)


@dataclass
class Finding:
    """A step's result for one promise: a row of the report. No problems: the promise was kept.

    `what`: what was done ("1,000 turns, 50 kills"); `figures`: what was measured; each problem says what was expected
    and what was seen.
    """

    promise: str
    what: str
    figures: Mapping[str, int | float | str]
    problems: list[str] = field(default_factory=list)


Step = Callable[[World], Sequence[Finding]]
