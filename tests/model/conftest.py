"""Fixtures of the tests with a real model: servers of it, and services in front of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.client import Caller
from testing.llama.server import PYTHON, Llama, settings
from testing.service import Service
from tests.support.services import Services

MISSING = '`make test ARGS="--stage model"` installs the model server first'


@pytest.fixture(scope="session")
def _installed() -> None:
    if not PYTHON.exists():
        pytest.skip(MISSING)


@pytest.fixture(scope="session")
def llama(_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """A model server for tests that need no other: a reply ends where the model ends it."""
    with Llama(tmp_path_factory.mktemp("llama")) as server:
        yield server


@pytest.fixture
def caller(llama: Llama, services: Services) -> Caller:
    """Somebody without a provider's key of their own."""
    return Caller(services.shared(**settings(llama.url)), key="")


@pytest.fixture(scope="session")
def narrow(_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """One whose context has room for a few short turns."""
    with Llama(tmp_path_factory.mktemp("narrow"), context=256, endless=True) as server:
        yield server


@pytest.fixture
def narrow_caller(narrow: Llama, services: Services) -> Caller:
    return Caller(services.shared(**settings(narrow.url)), key="")


@pytest.fixture
def endless(_installed: None, tmp_path: Path) -> Iterator[Llama]:
    """One of a test's own: no reply ends before `max_tokens`, so it can be cut."""
    with Llama(tmp_path, endless=True) as server:
        yield server


@pytest.fixture
def endless_service(endless: Llama, services: Services) -> Iterator[Service]:
    with services.own(**settings(endless.url)) as service:
        yield service
