"""The chat page for tests: what a person sees and does."""

from urllib.parse import quote

from playwright.sync_api import Locator, Page, expect

from testing.client import Caller

KEY_OF_THE_TAB = "sessionStorage.getItem('bancobot.key') ?? sessionStorage.setItem('bancobot.key', {key!r})"


class Chat:
    """The page of `caller`'s service. A caller with a key has signed in already, in this tab."""

    def __init__(self, page: Page, caller: Caller, url: str = "") -> None:
        self.page, self.caller = page, caller
        self.url = url or caller.service.url
        if caller.key:
            page.add_init_script(KEY_OF_THE_TAB.format(key=caller.key))

    def open(self, session_id: str = "") -> "Chat":
        self.page.goto(f"{self.url}/#/c/{quote(session_id, safe='')}" if session_id else f"{self.url}/")
        return self.is_ready()

    def reload(self) -> "Chat":
        self.page.reload()
        return self.is_ready()

    def is_ready(self) -> "Chat":
        self.page.locator("html[data-ready]").wait_for()
        return self

    def part(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    def messages(self, role: str, *, within: Locator | Page | None = None) -> Locator:
        """The messages of the conversation, without the folded older versions."""
        chosen = f"article[data-role={role}]:not([data-testid=older-versions] *)"
        return (within or self.page).locator(chosen)

    @property
    def question(self) -> Locator:
        """The last message."""
        return self.messages("user").last

    @property
    def reply(self) -> Locator:
        return self.messages("assistant").last

    @property
    def reply_text(self) -> Locator:
        return self.reply.get_by_test_id("message-text")

    def say(self, text: str) -> None:
        self.part("composer").fill(text)
        self.part("composer").press("Enter")

    def hears(self, text: str, status: str = "completed") -> None:
        """Assert that the last reply is exactly this text."""
        expect(self.reply).to_have_attribute("data-status", status)
        expect(self.reply_text).to_have_text(text)

    def asks(self, text: str, reply: str) -> None:
        """Send a message and wait for its reply."""
        before = self.messages("assistant").count()
        self.say(text)
        expect(self.messages("assistant")).to_have_count(before + 1)
        self.hears(reply)

    @property
    def session_id(self) -> str:
        return str(self.page.evaluate("decodeURIComponent(location.hash.slice(4).split('?')[0])"))

    def row(self, session_id: str) -> Locator:
        """A conversation in the list."""
        return self.page.locator(f"[data-testid=conversation][data-session-id='{session_id}']")

    def row_button(self, session_id: str, name: str) -> Locator:
        """A button of a row, which appears when the pointer is on the row."""
        row = self.row(session_id)
        row.hover()
        return row.get_by_test_id(f"conversation-{name}")
