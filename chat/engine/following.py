"""A turn as its listeners see it, whether this process runs it, or another one, or it has ended."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from django.db import Error as DatabaseProblem

from access.keyring import keyring
from chat.engine.turn import QUIET_SECONDS
from sessions_api.api.usage import turn_error
from sessions_api.models import Message, Outcome
from sessions_api.retention.dead_turns import interrupt_turns, is_dead
from sessions_api.store.lookups import find_replies
from sessions_api.store.writer import writer
from web.errors import ApiError, record

PATIENCE_SECONDS = 30.0  # without a database; the turn goes on, and waits for it as long
LOOK_SECONDS = 0.25  # between two reads of a turn that another process runs; its text is stored about once a second


class FollowedTurn(Protocol):
    """The part of a turn that a listener needs.

    `text` grows. At the end there is an `outcome` (completed or cancelled) or an `error`.
    """

    @property
    def turn_id(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def omitted(self) -> int: ...
    @property
    def outcome(self) -> Outcome | Message | None: ...
    @property
    def error(self) -> ApiError | None: ...
    @property
    def ended(self) -> bool: ...
    async def changed(self, *, text: bool = True) -> None: ...
    async def wait(self) -> None: ...


class StoredTurn:
    """A stored turn: it has ended, or another process runs it.

    Listening ends with an error that is not the turn's when this process stops (`overloaded`), or when the database is
    away for long.
    """

    def __init__(self, owner: str, reply: Message, default_model: str, is_stopping: Callable[[], bool]) -> None:
        self.owner = owner
        self._is_stopping = is_stopping
        self._seen_at = time.monotonic()
        self.turn_id = reply.turn_id
        self.session_id = reply.session.session_id
        self.model = reply.model or reply.session.model or default_model
        self.outcome: Message | None = None
        self.error: ApiError | None = None
        self._take(reply)

    def _take(self, reply: Message) -> None:
        self.reply = reply
        self.text = reply.content
        self.omitted = reply.history_omitted
        if reply.status in (Message.Status.COMPLETED, Message.Status.CANCELLED):
            self.outcome = reply
        elif reply.status != Message.Status.PENDING:
            self.error = turn_error(reply, reply.error_code or "internal_error", reply.turn_id)

    @property
    def ended(self) -> bool:
        return self.outcome is not None or self.error is not None

    async def changed(self, *, text: bool = True) -> None:
        """Wait for more text or the end, for a long silence, or until any watched key is refused."""
        length, until, refusals = len(self.text), time.monotonic() + QUIET_SECONDS, keyring.refusals
        while not self.ended and len(self.text) == length and time.monotonic() < until and keyring.refusals == refusals:
            await asyncio.sleep(LOOK_SECONDS)
            if self._is_stopping():
                self.error = ApiError("overloaded", retry_after=1, turn_id=self.turn_id)
                return
            try:
                await self._look()
                self._seen_at = time.monotonic()
            except DatabaseProblem as problem:
                if time.monotonic() - self._seen_at > PATIENCE_SECONDS:
                    record(problem)
                    self.error = ApiError("database_unavailable", retry_after=1, turn_id=self.turn_id)

    async def wait(self) -> None:
        while not self.ended:
            await self.changed()

    async def _look(self) -> None:
        reply = await find_reply(self.owner, self.turn_id, closed=True)
        if reply is None:  # erased
            self.error = ApiError("turn_not_found")
        else:
            self._take(reply)


async def find_reply(owner: str, turn_id: str, *, alive: bool = False, closed: bool = False) -> Message | None:
    """The owner's stored turn. Marks it as interrupted if it is dead, unless it is known to be `alive`.

    `closed`: also the turn of a closed session, for a listener from before.
    """
    reply = await writer.run(find_replies, (owner, turn_id))
    if reply is not None and reply.session.closed_at is not None and not closed:
        return None
    if reply is not None and not alive and reply.status == Message.Status.PENDING and is_dead(reply.heartbeat_at):
        await writer.run(interrupt_turns, turn_id)
        reply = await writer.run(find_replies, (owner, turn_id))
    return reply
