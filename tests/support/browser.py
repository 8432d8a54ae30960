"""A real Chromium, driven by playwright: each page has its own profile, and its faults are recorded."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
MISSING = "No browser was found. On Debian and Ubuntu: apt-get install chromium"
OWN_HOSTS = {"127.0.0.1", "localhost", ""}  # about:, blob: and data: have no host
QUIET = [
    "--disable-gpu", "--disable-quic", "--disable-sync", "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]  # fmt: skip
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "locale": "pt-BR"}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True
}  # fmt: skip
PATIENCE = 20_000.0  # milliseconds; enough on a busy machine

expect.set_options(timeout=PATIENCE)


class Watch:
    """Faults of a test's pages; `expects` names those that the test causes itself."""

    def __init__(self) -> None:
        self.complaints: list[str] = []  # errors on the console, uncaught exceptions
        self.foreign: list[str] = []  # requests to other hosts, allowed or not
        self.dialogs: list[str] = []  # alert(), confirm(), prompt()
        self._expected: list[str] = []

    def expects(self, *patterns: str) -> None:
        """Ignore faults that match one of these regular expressions."""
        self._expected += patterns

    def over(self, context: BrowserContext) -> None:
        context.on("console", self._said)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._asked)
        context.on("dialog", self._opened)

    @property
    def faults(self) -> list[str]:
        seen = [*self.complaints, *self.foreign, *self.dialogs]
        return [fault for fault in seen if not any(re.search(each, fault) for each in self._expected)]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def _asked(self, request: Request) -> None:
        if (urlsplit(request.url).hostname or "") not in OWN_HOSTS:
            self.foreign.append(request.url)

    def _opened(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


class Tabs:
    """Opens pages: `tabs.open()`, `tabs.open(**PHONE)`, `tabs.open(color_scheme="dark")`."""

    def __init__(self, chromium: Browser, watch: Watch) -> None:
        self._chromium, self._watch = chromium, watch
        self._contexts: list[BrowserContext] = []

    def open(self, **options: Any) -> Page:
        """A page in a new profile: no cookies, no storage, no cache."""
        context = self._chromium.new_context(**DESKTOP | options)
        context.set_default_timeout(PATIENCE)
        self._contexts.append(context)
        self._watch.over(context)
        return context.new_page()

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


SERIOUS = """options => axe.run(options).then(({ violations }) => violations
    .filter((fault) => ["serious", "critical"].includes(fault.impact))
    .flatMap((fault) => fault.nodes.map((node) => `${fault.id}: ${node.target} ${node.failureSummary}`)))"""


def barriers(page: Page, *rules: str) -> list[str]:
    """axe-core's serious and critical faults, which exclude users of a screen reader or a keyboard.

    By all its rules, or by these.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    options = {"resultTypes": ["violations"], "preload": False} | ({"runOnly": list(rules)} if rules else {})
    found: list[str] = page.evaluate(SERIOUS, options)
    return found
