"""What tests share: the scripted upstream, and the real service in front of it."""

import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from sessions_api.runner import outages
from tests.environment import leaks
from tests.service import Service, provider_settings
from tests.upstream import Upstream

MakeService = Callable[..., Service]


def pytest_configure(config: pytest.Config) -> None:
    # These end the run as Ctrl-C does: with the teardown that stops the services.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if reason := leaks():
        raise pytest.UsageError(f'{reason}: use `make test ARGS="…"`, or set ENV_FILE=/dev/null and unset the key.')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
        return
    elsewhere = [item for item in items if item.get_closest_marker("no_database")]
    items[:] = [item for item in items if not item.get_closest_marker("no_database")]
    config.hook.pytest_deselected(items=elsewhere)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A real file in the place of Django's in-memory SQLite, which knows no WAL and locks in another way.

    On PostgreSQL each of the processes that share the tests gets a database of its own.
    """
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(autouse=True)
def _no_outage() -> Iterator[None]:
    """What a test does to the database's connection must not keep the next one from taking a turn for dead."""
    yield
    outages.last_at = -math.inf


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """The scripted upstream, with its script and its counts as new."""
    _upstream.clear()
    return _upstream


@pytest.fixture(scope="session")
def _service(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"), settings=provider_settings(_upstream.url))
    yield service
    service.close()


@pytest.fixture
def service(_service: Service, upstream: Upstream) -> Iterator[Service]:
    """One service for all tests, so a test keeps to sessions, or to a caller's key, of its own.

    Tests that need other settings, an empty database or a crash take `make_service`.
    """
    if not _service.running:
        _service.start()
    before = len(_service.log())
    yield _service
    print(_service.log()[before:])  # pytest shows it with a test that failed


@pytest.fixture
def make_service(upstream: Upstream, tmp_path: Path) -> Iterator[MakeService]:
    """Starts a service of the test's own: `make_service(workers=2, SESSION_BUSY_WAIT_SECONDS="1")`."""
    made: list[Service] = []

    def make(*, workers: int = 1, **own: str) -> Service:
        directory = tmp_path / f"service-{len(made)}"
        directory.mkdir()
        service = Service(directory, workers=workers, settings=provider_settings(upstream.url) | own)
        made.append(service)
        return service.start()

    yield make
    for service in made:
        service.close()
        print(service.log())
