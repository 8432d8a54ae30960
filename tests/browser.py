"""A real Chromium, driven through its own debugging protocol: pages are opened, filled in, clicked and watched."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_browser = pytest.mark.skipif(not BROWSER, reason="NO BROWSER: apt-get install chromium to see pages in one")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1280,1000", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]  # fmt: skip
PATIENCE = 30.0  # seconds


class Page:
    """One tab. `complaints` is what the console said of errors, a refused script or style among them."""

    def __init__(self, directory: Path) -> None:
        (browser_reads, self._commands), (self._answers, browser_writes) = os.pipe(), os.pipe()
        # The browser takes its orders from file 3 and answers on file 4.
        start = f'exec "$0" "$@" 3<&{browser_reads} 4>&{browser_writes}'
        arguments = [*QUIET, f"--user-data-dir={directory}/profile", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", start, BROWSER, *arguments],
            pass_fds=(browser_reads, browser_writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(browser_reads)
        os.close(browser_writes)
        self._received, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self.loads = 0

    def open(self) -> "Page":
        targets = self.order("Target.getTargets")["targetInfos"]
        tab = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.order("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.order(f"{domain}.enable")
        return self

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def go(self, address: str) -> "Page":
        before = self.loads
        failure = self.order("Page.navigate", url=address).get("errorText")
        assert not failure, f"{address}: {failure}"
        self.wait_for_load(before)
        return self

    def run(self, script: str) -> Any:
        """What an expression is worth in the page; promises are waited for."""
        answer = self.order(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
            allowUnsafeEvalBlockedByCSP=False,  # what the page may not do, a script run in it may not either
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def fill(self, selector: str, text: str) -> None:
        self.run(f"document.querySelector({selector!r}).value = {json.dumps(text)}")

    def click(self, selector: str, *, leads_on: bool = False) -> None:
        before = self.loads
        self.run(f"document.querySelector({selector!r}).click()")
        if leads_on:
            self.wait_for_load(before)

    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    def wait_for(self, script: str) -> Any:
        """The expression's value as soon as it is one that counts as true; of an element, true."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.run(f"(value => value instanceof Node || value)({script})")):
            assert time.monotonic() < deadline, f"never true: {script}\n{self.complaints}\n{self.text()[:2000]}"
            time.sleep(0.05)
        return value

    def wait_for_load(self, before: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.loads == before:
            self._take(self._next(deadline))

    def order(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while (answer := self._next(deadline)).get("id") != self._number:
            self._take(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _take(self, event: dict[str, Any]) -> None:
        kind, facts = event.get("method"), event.get("params", {})
        if kind == "Page.loadEventFired":
            self.loads += 1
        elif kind == "Page.javascriptDialogOpening":
            self.dialogs.append(facts["message"])
            self._number += 1
            answer = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
            os.write(self._commands, json.dumps({**answer, "sessionId": self._session}).encode() + b"\0")
        elif kind == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.complaints.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")
        elif kind == "Runtime.consoleAPICalled" and facts["type"] == "error":
            self.complaints.append(" ".join(str(part.get("value")) for part in facts["args"]))
        elif kind == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(facts["exceptionDetails"])[:500])

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if ready else b""
            assert data, "the browser said nothing"
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(directory: Path) -> Iterator[Page]:
    page = Page(directory)
    try:
        yield page.open()
    finally:
        page.close()
