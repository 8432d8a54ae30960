"""Fixtures of the browser tests: the browser, the chat page, and an operator's admin."""

import re
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.hashers import make_password
from playwright.sync_api import Browser, Page, StorageState, expect

from testing.client import Caller
from testing.environment import free_port
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import MISSING, PROGRAM, Tabs, Watch, chromium
from tests.support.chat_page import Chat
from tests.support.services import Services

OpenAdmin = Callable[..., Page]
SITE_PORT = free_port()
SITE = f"http://127.0.0.1:{SITE_PORT}"  # its pages may call the service that asks for keys
PASSWORD = "Uma-senha-de-teste-7"


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Browser]:
    """One browser for all tests of a process; each test has its own profiles."""
    if not PROGRAM:
        pytest.skip(MISSING)
    with chromium() as browser:
        yield browser


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def tabs(_chromium: Browser, watch: Watch) -> Iterator[Tabs]:
    """Opens pages; any fault of them fails the test, unless it `expects` the fault."""
    opened = Tabs(_chromium, watch)
    yield opened
    opened.close()
    assert watch.faults == []


@pytest.fixture
def page(tabs: Tabs) -> Page:
    return tabs.open()


@pytest.fixture
def chat(service: Service, page: Page) -> Chat:
    """The chat page of a caller with a key, who has their own conversations."""
    return Chat(page, Caller(service))


@pytest.fixture
def keyed(services: Services, upstream: Upstream) -> Service:
    """A second service for all tests, which asks for keys."""
    return services.shared(ACCESS_MODE="keys", CORS_ALLOWED_ORIGINS=SITE)


def log_in(service: Service, browser: Browser) -> StorageState:
    """The cookies of a new operator who has logged in to the admin."""
    columns = "username, password, is_superuser, is_staff, is_active, first_name, last_name, email, date_joined"
    values = ("chefe", make_password(PASSWORD), True, True, True, "", "", "", "2026-01-01 00:00:00+00:00")
    service.sql(f"INSERT INTO auth_user ({columns}) VALUES ({', '.join(['%s'] * len(values))})", *values)
    context = browser.new_context(base_url=service.url)
    page = context.new_page()
    page.goto("/admin/login/?next=/admin/password_change/")
    page.locator("#id_username").fill("chefe")
    page.locator("#id_password").fill(PASSWORD)
    page.locator("[type=submit]").click()
    expect(page).to_have_url(re.compile("/password_change/$"))
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(scope="session")
def _logged_in(services: Services, _chromium: Browser) -> StorageState:
    """Once for all tests of the process: hashing a password takes a while."""
    return log_in(services.shared(), _chromium)


@pytest.fixture
def open_admin(_logged_in: StorageState, service: Service, tabs: Tabs) -> OpenAdmin:
    """Opens a page of the admin as an operator: `open_admin("/sessions_api/session/", **PHONE)`."""

    def opened(path: str, **options: object) -> Page:
        page = tabs.open(base_url=service.url, storage_state=_logged_in, **{"locale": "en-US"} | options)
        page.goto(f"/admin{path}")
        return page

    return opened
