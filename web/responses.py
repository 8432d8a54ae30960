"""A streamed answer of a view that stays on the event loop."""

from collections.abc import AsyncGenerator
from typing import Any

from django.http import StreamingHttpResponse


class Stream(StreamingHttpResponse):
    """Its `pieces` go out as they come: each is a part of the body, whole.

    The handler (application.py) takes them from here; Django would lead every piece through three more generators.
    """

    def __init__(self, pieces: AsyncGenerator[bytes], *args: Any, **kwargs: Any) -> None:
        super().__init__(pieces, *args, **kwargs)
        self.pieces = pieces
