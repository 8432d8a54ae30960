"""Undoes one layer of compression, which nobody asked for, in small steps and within bounds.

Some proxies compress whatever `Accept-Encoding` says. Two layers of a few hundred bytes can unpack to gigabytes.
"""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, Iterator

import httpx

from chat.providers import errors

GZIP, ZLIB, BARE = 31, 15, -15  # zlib's numbers for what is around the compressed data
FORMATS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}
NO_CODING = {"", "identity", "none", "utf-8", "utf8"}  # the last are charsets, which some servers write here
GZIP_BEGIN = 0x1F  # no text begins with it
SLICE = 16 * 1024  # packed bytes that are worked on before others get their turn
STEP = 256 * 1024  # bytes that are unpacked at once
FREE_BYTES = 8 * 1024 * 1024  # bytes of which the ratio does not matter
MAX_RATIO = 250  # events shrink to a tenth, at most to a hundredth; zeros to a thousandth


def codings_of(headers: httpx.Headers) -> list[str]:
    """The names in all Content-Encoding headers, without those that say that nothing was packed."""
    names = ",".join(headers.get_list("content-encoding")).lower().split(",")
    return [name for name in map(str.strip, names) if name not in NO_CODING]


async def unpacked(chunks: AsyncGenerator[bytes, None], codings: list[str]) -> AsyncGenerator[bytes, None]:
    """The body without its only coding. Raises `ProviderError` for more codings, or unknown ones, before any work."""
    if len(codings) != 1 or codings[0] not in FORMATS:
        raise errors.invalid_response("a content coding that is not understood")
    unpacker = Unpacker(FORMATS[codings[0]])
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            for start in range(0, len(chunk), SLICE):
                for step in unpacker.steps(chunk[start : start + SLICE]):
                    yield step
                    await asyncio.sleep(0)  # a small chunk may have many steps, and others wait
                await asyncio.sleep(0)  # or no step, but many empty members
    unpacker.check_end()


class Unpacker:
    """Unpacks gzip (any number of members), zlib's format, or the bare data that some call deflate.

    What is called gzip and does not begin like it is passed on: gateways unpack a body and forget the header.
    """

    def __init__(self, form: int) -> None:
        self._form = form
        self._unpack = zlib.decompressobj(form)
        self._begun = self._is_plain = False
        self._taken = 0
        self._given = 0

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        if not chunk:
            return
        if not self._begun:
            self._begin(chunk)
        if self._is_plain:
            yield chunk
            return
        self._taken += len(chunk)
        while True:
            if self._unpack.eof:
                chunk = self._next_member(chunk)
                if not chunk:
                    return
            step = self._step(chunk)
            if step:
                yield step
            chunk = self._unpack.unused_data if self._unpack.eof else self._unpack.unconsumed_tail
            if not chunk and (len(step) < STEP or self._unpack.eof):
                return

    def check_end(self) -> None:
        if self._begun and not self._is_plain and not self._unpack.eof:
            raise errors.invalid_response("a compressed body that was cut short")

    def _begin(self, chunk: bytes) -> None:
        """Tell zlib's format, whose first byte ends in 8, from bare data, whose first byte does not in practice."""
        self._begun = True
        self._is_plain = self._form == GZIP and chunk[0] != GZIP_BEGIN
        if self._form == ZLIB and chunk[0] & 0x0F != 8:
            self._form = BARE
            self._unpack = zlib.decompressobj(BARE)

    def _next_member(self, chunk: bytes) -> bytes:
        """What follows an end: another gzip member, or padding, which is dropped."""
        if self._form == GZIP and (chunk := chunk.lstrip(b"\0")):
            self._unpack = zlib.decompressobj(GZIP)
            return chunk
        return b""

    def _step(self, chunk: bytes) -> bytes:
        try:
            step = self._unpack.decompress(chunk, STEP)
        except zlib.error as exc:
            raise errors.invalid_response("a compressed body that can't be unpacked") from exc
        self._given += len(step)
        if self._given > max(FREE_BYTES, MAX_RATIO * self._taken):
            raise errors.invalid_response("a compressed body that unpacks to far too much")
        return step
