"""Answers that go out piece by piece: event streams, and files."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import StreamingHttpResponse


class Stream(StreamingHttpResponse):
    """Its `pieces` go out as they come: each is a part of the body, whole.

    The handler (application.py) takes them from here; Django would lead every piece through three more generators.
    """

    def __init__(self, pieces: AsyncGenerator[bytes], *args: Any, **kwargs: Any) -> None:
        super().__init__(pieces, *args, **kwargs)
        self.pieces = pieces


class Download(StreamingHttpResponse):
    """A file of which one piece at a time is in memory. (Of an iterator like this one Django would make a list first.)

    The pieces are made on the request's own thread. `name` has no characters that mean something in a header.
    """

    def __init__(self, pieces: Iterator[bytes], content_type: str, name: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(pieces, content_type=f"{content_type}; charset=utf-8", headers=headers)
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await sync_to_async(self._next)()) is not None:
                yield piece
        except Exception:
            await sync_to_async(self.close)()  # Django does not, and the thread's connection would be lost to its pool
            raise

    def _next(self) -> bytes | None:
        piece = next(self._pieces, None)
        if connection.vendor == "postgresql":
            connection.close_if_unusable_or_obsolete()  # back to the pool: others need it in between
        return piece
