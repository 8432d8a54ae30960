"""`python -m tests.opening`: how long the chat page takes to show a long conversation, in a real Chromium.

From the click on it in the list to the second frame that shows it (medians of some clicks), on SQLite: 2,000 short
messages, 2,000 of tables and code, 20,000 superseded ones, and a hit of a search far up. "Busy" is the CPU time of the
page's main thread, which other programs do not lengthen. Then how long it takes to scroll up to the first message, and
the longest frame on the way.
"""

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import CDPSession, Page

from testing.client import Caller
from testing.service import Service
from tests.support.browser import DESKTOP, chromium
from tests.support.chat_page import Chat
from tests.support.written import Line, write

MESSAGES, SUPERSEDED, CLICKS = 2_000, 20_000, 9
RICH = (
    "Veja a tabela {}:\n\n| mês | taxa | saldo |\n|---|---:|---:|\n"
    + "| maio | **1,2%** | `R$ 1.234,56` |\n" * 30
    + (
        "\nE o cálculo:\n\n```python\n"
        + "total = sum(parcela * (1 + taxa) ** mes for mes in range(12))\n" * 30
        + "```\n"
    )
)
# Resolves with milliseconds when the conversation of a link, and in it an article that matches, has been shown.
OPENED = """([link, shown]) => new Promise((resolve) => {
    const began = performance.now();
    document.querySelector(link).click();
    const look = () => document.querySelector(shown)
        ? requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - began)))
        : requestAnimationFrame(look);
    look();
})"""
SCROLLED = """(count) => new Promise((resolve) => {
    const list = document.querySelector("[data-testid=messages]");
    const began = performance.now();
    let [last, longest] = [began, 0];
    const up = (now) => {
        longest = Math.max(longest, now - last);
        last = now;
        if (document.querySelectorAll("article").length >= count) return resolve([now - began, longest]);
        list.scrollTop -= 800;
        requestAnimationFrame(up);
    };
    requestAnimationFrame(up);
})"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bancobot-") as directory, running(Path(directory)) as service:
        caller, then = Caller(service), datetime.now(UTC).isoformat()
        write(caller, "nada", ["Oi", "Olá"])
        write(caller, "short", [f"Mensagem {number} sobre a fatura do cartão" for number in range(MESSAGES)])
        write(caller, "rich", [RICH.format(number) for number in range(MESSAGES)])
        old = [Line(f"versão {number}", superseded_at=then) for number in range(SUPERSEDED)]
        write(caller, "superseded", ["Oi", "Olá", *old, *(f"depois {number}" for number in range(20))])
        with chromium() as browser:
            page = browser.new_context(**DESKTOP).new_page()
            chat = Chat(page, caller).open()
            for session in ("short", "rich", "superseded"):
                print(session, opening(page, session), flush=True)
            chat.part("search").fill("mensagem 40 fatura")
            page.wait_for_selector("a[href*='short'][href*='message=']")
            print("a hit far up", opening(page, "short", "article.hit"), flush=True)
            chat.part("search").press("Escape")
            page.wait_for_selector("[data-session-id='rich'] a:not([href*='q='])")
            for session in ("short", "rich"):
                opening(page, session, clicks=1)
                whole, longest = page.evaluate(SCROLLED, MESSAGES)
                print(f"{session}, scrolled to its beginning: {whole / 1000:.1f} s, longest frame {longest:.0f} ms")


@contextmanager
def running(directory: Path) -> Iterator[Service]:
    service = Service(directory, settings={"LLM_PROVIDER": "demo", "ACCESS_MODE": "open"})
    try:
        yield service.start()
    finally:
        service.close()


def opening(page: Page, session: str, shown: str = "article.last", clicks: int = CLICKS) -> str:
    taken, busy, tools = [], [], page.context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    for _ in range(clicks):
        page.evaluate("location.hash = '#/'")
        page.wait_for_function("document.querySelectorAll('article').length === 0")
        page.wait_for_timeout(200)
        before = task_time(tools)
        taken.append(page.evaluate(OPENED, [f"[data-session-id='{session}'] a", shown]))
        busy.append(1000 * (task_time(tools) - before))
    tools.detach()
    return f"{statistics.median(taken):.0f} ms, busy {statistics.median(busy):.0f} ms"


def task_time(tools: CDPSession) -> float:
    """Seconds of CPU time that the page's main thread has taken."""
    metrics = tools.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


if __name__ == "__main__":
    main()
