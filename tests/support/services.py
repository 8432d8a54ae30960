"""Services for tests: those that they share, one for each set of settings, and those of a test's or a module's own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from testing.service import Service, provider_settings, template
from testing.upstream import Upstream


class Services:
    """Starts services in front of the scripted upstream; a start takes longer than most tests."""

    def __init__(self, directories: pytest.TempPathFactory, upstream: Upstream) -> None:
        self._directories, self._upstream = directories, upstream
        self._shared: dict[object, Service] = {}

    def shared(self, workers: int = 1, /, *options: str, **settings: str) -> Service:
        """The one with these settings, for all tests of the run: each keeps to sessions or a key of its own."""
        wanted = (workers, *options, *sorted(settings.items()))
        service = self._shared.get(wanted) or self._shared.setdefault(wanted, self._new(workers, options, settings))
        return service if service.running else service.start()

    @contextmanager
    def own(self, workers: int = 1, /, *options: str, **settings: str) -> Iterator[Service]:
        """One for who needs an empty database, a crash or a restart."""
        service = self._new(workers, options, settings)
        try:
            yield service.start()
        finally:
            service.close()
            print(service.log())  # pytest shows it with a test that failed

    @contextmanager
    def pair(self, **settings: str) -> Iterator[list[Service]]:
        """Two on one database, each with an address of its own: a test knows which of them it asks."""
        with self.own(**settings) as first:
            second = Service(self.directory(), settings=first.settings, forks=True)
            try:
                yield [first, second.start()]
            finally:
                second.kill()

    def directory(self) -> Path:
        return self._directories.mktemp("service")

    def close(self) -> None:
        for service in self._shared.values():
            service.close()
        template(self._directories.getbasetemp()).close()

    def _new(self, workers: int, options: Sequence[str], settings: dict[str, str]) -> Service:
        migrated = template(self._directories.getbasetemp())
        own = provider_settings(self._upstream.url) | settings
        return Service(self.directory(), workers=workers, options=options, settings=own, template=migrated, forks=True)
