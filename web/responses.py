"""Answers in pieces, event streams and files; and those that are made once, also compressed."""

import gzip
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.cache import get_conditional_response, patch_vary_headers

# In an Accept-Encoding header: a coding, and its quality from 0 to 1.
A_CODING = re.compile(r"\s*([a-z0-9*_-]+)\s*(?:;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?", re.IGNORECASE)


class Stream(StreamingHttpResponse):
    """Its `pieces` go out as they come, each as one part of the body.

    The ASGI application takes them from here. Django would pass every piece through three more generators.
    """

    def __init__(self, pieces: AsyncGenerator[bytes], *args: Any, **kwargs: Any) -> None:
        super().__init__(pieces, *args, **kwargs)
        self.pieces = pieces


class Download(StreamingHttpResponse):
    """A file, with one piece at a time in memory. Django would first make a list of such an iterator.

    The request's own thread makes the pieces. `name` has no characters that mean something in a header.
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
            await sync_to_async(self.close)()  # Django does not, and the pool would lose the thread's connection
            raise

    def _next(self) -> bytes | None:
        piece = next(self._pieces, None)
        if connection.vendor == "postgresql":
            connection.close_if_unusable_or_obsolete()  # back to the pool, for others to use in between
        return piece


class KeptAnswer(NamedTuple):
    """A body with its strong ETag."""

    body: bytes
    etag: str

    def response(self, request: HttpRequest, content_type: str, **headers: str) -> HttpResponse:
        """The body, or 304 where the request's If-None-Match names it."""
        answer = HttpResponse(self.body, content_type=content_type)
        answer["Cache-Control"] = "private, no-cache"  # ask each time: it costs little while the answer is the same
        answer["ETag"] = self.etag
        for name, value in headers.items():
            answer[name] = value
        conditional: Any = get_conditional_response(request, etag=self.etag, response=answer)
        return conditional  # type: ignore[no-any-return]


def keep(body: bytes) -> KeptAnswer:
    return KeptAnswer(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def accepts_gzip(request: HttpRequest) -> bool:
    """Whether the reader takes gzip, and takes it no less gladly than the plain form. What is malformed counts not."""
    sent = [A_CODING.fullmatch(one) for one in request.headers.get("Accept-Encoding", "").split(",")]
    wanted = {one[1].lower(): float(one[2] or 1) for one in sent if one}
    quality = wanted.get("gzip", wanted.get("x-gzip", wanted.get("*", 0.0)))
    return quality > 0 and quality >= wanted.get("identity", 0.0)


def compress(request: HttpRequest, answer: HttpResponse) -> None:
    """Give the answer the form that the reader wants. For few bodies, each of which is compressed once."""
    patch_vary_headers(answer, ["Accept-Encoding"])
    if accepts_gzip(request):
        answer.content = gzipped_once(answer.content)
        answer["Content-Encoding"] = "gzip"


def gzipped(body: bytes) -> bytes:
    """Compressed; the same bytes for the same body.

    Only for what is the same for every reader. Where a secret stands beside text that somebody else chose, the length
    of what is compressed tells the secret, character by character (BREACH).
    """
    return gzip.compress(body, compresslevel=9, mtime=0)


gzipped_once = lru_cache(maxsize=8)(gzipped)
