"""Every page of the admin, found in its addresses: full of long texts, it fits, and shuts nobody out."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.urls import URLPattern, URLResolver
from playwright.sync_api import Browser, Page, expect

from access.admin_site import site
from testing.service import Service
from tests.browser import crowded
from tests.support.browser import Tabs, Watch, barriers
from tests.support.browser_fixtures import log_in
from tests.support.services import Services

# A scheme moves nothing. axe looks at both, by the rules in question: all, none (`None`), or what depends on colours.
LOOKS: list[tuple[Literal["light", "dark"], int, int, tuple[str, ...] | None]] = [
    ("light", 1280, 800, ()), ("light", 700, 900, None), ("dark", 390, 844, ("color-contrast", "link-in-text-block")),
]  # fmt: skip
FITTING = (Path(__file__).parent / "fitting.js").read_text()
# No pages: they take a POST, lead elsewhere, or answer a script. Every other address is opened.
NO_PAGES = {"running_cancel", "sessions_api_session_close", "logout", "autocomplete", "jsi18n", "view_on_site"}
NOWHERE = "nada/"
ALIKE = {"history", "delete"}  # each model's are the same page; axe looks at the first


def patterns(found: list[Any], beginning: str = "") -> Iterator[tuple[str, str | None]]:
    for one in found:
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns, beginning + str(one.pattern))
        elif isinstance(one, URLPattern):
            yield beginning + str(one.pattern), one.name


def newest(service: Service, route: str) -> str:
    """The newest record of the model that the address names."""
    app, model = route.split("/")[:2]
    [table] = [each._meta.db_table for each in site._registry if each._meta.label_lower == f"{app}.{model}"]
    ((number,),) = service.sql(f"SELECT max(id) FROM {table}")
    assert number is not None, f"crowded.py makes no rows for {table}"
    return str(number)


def addresses(service: Service) -> list[str]:
    """One of each page, below /admin/."""
    found = []
    for route, name in patterns(site.get_urls()):
        if name in NO_PAGES or route.endswith("<path:object_id>/"):
            continue
        if "app_label" in route:
            found += [f"{label}/" for label in sorted({model._meta.app_label for model in site._registry})]
        elif route.startswith("(?P<url>"):
            found.append(NOWHERE)
        else:
            found.append(
                re.sub("<(?:[a-z]+:)?(?:object_)?id>", newest(service, route), route) if "<" in route else route
            )
    assert not [route for route in found if "<" in route], "Say here which record such an address means."
    return found


@pytest.fixture
def console(services: Services, _chromium: Browser, tabs: Tabs, watch: Watch) -> Iterator["Console"]:
    """Of a service full of long texts, whose operator is logged in."""
    watch.expects("Applying inline style", "status of 4", "status of 503")  # axe itself causes the first
    with services.own(ADMIN_LOGIN_TRIES="1") as service:
        state = log_in(service, _chromium)
        crowded.fill(service)
        yield Console(
            tabs.open(base_url=f"{service.url}/admin/", storage_state=state, reduced_motion="reduce"), service
        )


class Console:
    """Opens pages one after the other, and collects what is wrong with them in any look."""

    def __init__(self, page: Page, service: Service) -> None:
        self.page, self.service = page, service
        self.faults: dict[str, list[str]] = {}

    def look(self, name: str = "", *, axe: bool = True) -> None:
        """In every look at the page that is open. Without `axe` where it has seen such a page."""
        page = self.page
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.evaluate("document.activeElement?.blur()")
        for scheme, width, height, rules in LOOKS:
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate(FITTING)
            found += barriers(page, *rules) if axe and rules is not None else []
            if found:
                self.faults[f"{name or page.url} ({scheme}, {width})"] = found

    def open(self, address: str, name: str = "", *, axe: bool = False) -> None:
        self.page.goto(address)
        self.look(name, axe=axe)


def filtered(page: Page) -> str:
    """The address of the open list with each of its filters on, or nothing."""
    last = page.locator("#changelist-filter ul > li:last-child a").evaluate_all("all => all.map((each) => each.href)")
    chosen = [pair for link in last for pair in parse_qsl(urlsplit(link).query)]
    return f"{page.url}?{urlencode(dict(chosen))}" if chosen else ""


def test_every_page_of_the_admin_fits_and_shuts_nobody_out(console: Console) -> None:
    all_addresses(console)
    after_forms(console)
    on_errors(console)
    for_a_reader(console)
    signed_out(console)
    faults = [f"{where}\n    {fault}" for where, found in console.faults.items() for fault in found]
    assert not faults, "\n".join(faults)


def all_addresses(console: Console) -> None:
    page, was_refused = console.page, False
    met: set[str] = set()
    for address in addresses(console.service):
        answer = page.goto(address)
        refused = answer is not None and answer.status == 403  # nobody may add or delete such records: one page
        kind = address.rstrip("/").rpartition("/")[2]
        if not (refused and was_refused):
            console.look(axe=kind not in met & ALIKE)
        was_refused = was_refused or refused
        met.add(kind)
        if page.locator("#changelist").count() and (every_filter := filtered(page)):
            console.open(every_filter)


def after_forms(console: Console) -> None:
    page = console.page
    page.goto("access/key/add/?client=2")
    for opener in ("#calendarlink0", "#clocklink0"):
        page.locator(opener).click()
        console.look(opener)
        page.keyboard.press("Escape")
    page.locator("[name=_save]").click()
    expect(page.locator("#whole-key")).to_be_visible()
    console.look("a new key")
    page.goto("access/client/add/")
    page.locator("[name=_save]").click()
    expect(page.locator(".errornote")).to_be_visible()
    console.look("a form with an error")
    console.open("access/client/2/change/?_popup=1", "a window of its own")
    for action in ("close_selected", "delete_selected"):
        page.goto("sessions_api/session/")
        page.locator("#action-toggle").check()
        page.locator("select[name=action]").select_option(action)
        page.locator("button[name=index]").click()
        expect(page.locator(".messagelist, .delete-confirmation").first).to_be_visible()
        console.look(action)
    crowded.short_sessions(console.service, 101)
    console.open("sessions_api/session/?p=2", "the second page of a list")


def on_errors(console: Console) -> None:
    page, said = console.page, console.page.locator("#content h1")
    page.goto("sessions_api/session/?owner__icontains=a")
    expect(said).to_have_text("A requisição não é válida.")
    console.look("not valid")
    page.goto("access/client/add/")
    page.locator("#client_form [name=csrfmiddlewaretoken]").evaluate("field => { field.value = 'x' }")
    page.locator("[name=_save]").click()
    expect(said).to_contain_text("Recarregue a página.")
    console.look("a form that is no longer valid")
    console.service.sql("ALTER TABLE access_client RENAME TO away")
    page.goto("access/client/")
    console.service.sql("ALTER TABLE away RENAME TO access_client")
    expect(page.locator("#content")).to_contain_text("database_unavailable")
    console.look("without the database")


def for_a_reader(console: Console) -> None:
    """Who may change nothing sees texts where others see fields."""
    console.service.sql("UPDATE auth_user SET is_superuser = %s WHERE username = 'chefe'", False)
    console.service.sql(
        "INSERT INTO auth_user_user_permissions (user_id, permission_id) "
        "SELECT u.id, p.id FROM auth_user u, auth_permission p WHERE u.username = 'chefe' AND p.codename LIKE %s",
        "view_%",
    )
    for address in ("", "access/client/2/change/", f"auth/user/{crowded.USER}/change/", "sessions_api/session/"):
        console.open(address, f"{address} of who may only read")


def signed_out(console: Console) -> None:
    page = console.page
    page.locator("#logout-form button").click()
    expect(page.locator("#user-tools")).to_have_count(0)
    console.look("logged out")
    console.open("login/", "login", axe=True)
    for name in ("a wrong password", "locked"):
        page.locator("#id_username").fill("chefe")
        page.locator("#id_password").fill("errada")
        page.locator("[type=submit]").click()
        expect(page.locator(".errornote, #content h1").first).to_be_visible()
        console.look(name)
    expect(page.locator("#id_password")).to_have_count(0)
