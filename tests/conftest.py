"""What tests share: the scripted upstream, and the real service in front of it."""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client, TransactionTestCase

from sessions_api.store.process import outages
from testing.environment import leaks
from testing.service import Service, new_database
from testing.upstream import Upstream
from tests.support.operators import logged_in
from tests.support.services import Services

pytest_plugins = ["tests.support.browser_fixtures"]
MakeService = Callable[..., Service]

MARKS = ("browser", "proxy", "model")  # of the tests in the folders of these names
DATABASE = {"db", "transactional_db", "services", "database_url"}  # fixtures by which a test meets a database

# Of `tuned_service`: the settings that tests want otherwise than they are, and that are in no other test's way.
TUNED = {
    "BANCOBOT_SYSTEM_PROMPT": "Sou o banco.",
    "CHAT_SYSTEM_PROMPT": "Sou o chat.",
    "MAX_TURNS_IN_FLIGHT": "3",
    "SESSION_BUSY_WAIT_SECONDS": "0.2",
    "TURN_DEADLINE_SECONDS": "2",
    "UPSTREAM_READ_SECONDS": "3600",
}


def pytest_configure(config: pytest.Config) -> None:
    # These end the run as Ctrl-C does: with the teardown that stops the services.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if reason := leaks():
        raise pytest.UsageError(f'{reason}: use `make test ARGS="…"`, or set ENV_FILE=/dev/null and unset the key.')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Says which tests a database can change, `-m database`, and which have a stage of their own."""
    for item in items:
        for mark in MARKS:
            if item.path.is_relative_to(Path(__file__).parent / mark):
                item.add_marker(mark)
        if item.get_closest_marker("django_db") or DATABASE & set(getattr(item, "fixturenames", ())):
            item.add_marker("database")
    # Last, since playwright's event loop runs in the main thread for as long as there is a browser: no other can.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


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


@pytest.fixture(scope="session", autouse=True)
def _cheap_flush() -> Iterator[None]:
    """Permissions and content types stay: to make them anew after each test is nine tenths of Django's flush."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda test: empty_tables())
        yield


def empty_tables() -> None:
    """By DELETE, since PostgreSQL's TRUNCATE makes every file anew; Django checks foreign keys at the commit."""
    kept = {model._meta.db_table for model in (ContentType, Permission)}
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - kept
    statements = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables]
    connection.ops.execute_sql_flush(statements)


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
def _services(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(tmp_path_factory, _upstream)
    yield services
    services.close()


@pytest.fixture(scope="session")
def services(_services: Services) -> Services:
    """Starts services with settings of a test's own: `services.shared(ACCESS_MODE="keys")`, or `services.own()`."""
    return _services


@pytest.fixture(scope="session")
def fronts(_services: Services) -> Services:
    """The same for tests of what no database can change: PostgreSQL leaves them out."""
    return _services


@pytest.fixture
def service(services: Services, upstream: Upstream) -> Iterator[Service]:
    """One service for all tests, so a test keeps to sessions, or to a caller's key, of its own.

    Tests that need other settings take `tuned_service`, or `services`; those that need an empty database or a crash
    take `make_service`.
    """
    yield from logged(services.shared())


@pytest.fixture
def front(fronts: Services, upstream: Upstream) -> Iterator[Service]:
    """The same service for tests of what no database can change: PostgreSQL leaves them out."""
    yield from logged(fronts.shared())


@pytest.fixture
def tuned_service(services: Services, upstream: Upstream) -> Iterator[Service]:
    """Another one for all tests, with the settings in TUNED."""
    yield from logged(services.shared(**TUNED))


def logged(service: Service) -> Iterator[Service]:
    before = len(service.log())
    yield service
    print(service.log()[before:])  # pytest shows it with a test that failed


@pytest.fixture
def make_service(services: Services, upstream: Upstream) -> Iterator[MakeService]:
    """Starts a service of the test's own: `make_service(workers=2, SESSION_BUSY_WAIT_SECONDS="1")`."""
    with ExitStack() as made:
        yield lambda *, workers=1, **own: made.enter_context(services.own(workers, **own))


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A new and empty database of the kind under test."""
    return new_database(tmp_path)


@pytest.fixture
def operator(transactional_db: None) -> Client:
    """A superuser, "chefe", who is logged in to the admin."""
    return logged_in(User.objects.create_superuser("chefe"))
