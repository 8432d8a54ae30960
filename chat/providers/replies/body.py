"""The bytes of an answer: in pieces as they come, whole up to a bound, and closed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

import httpx

from chat.providers import errors
from chat.providers.base import ProviderError

from .codings import codings_of, unpacked
from .reply import Reply

COUNTS_PATIENCE = 2.0  # seconds from the finish reason to the counts
DRAIN_PATIENCE = 0.2  # seconds from the end mark to the end of the body; then the connection can be used again


def chunks_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it comes in: straight from the transport, unless somebody compressed it all the same."""
    chunks = cast(AsyncGenerator[bytes, None], aiter(cast(httpx.AsyncByteStream, response.stream)))
    if "content-encoding" in response.headers and (codings := codings_of(response.headers)):
        return unpacked(chunks, codings)
    return chunks


async def read_whole(response: httpx.Response, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes. Closes the response."""
    source = chunks_of(response)
    body = bytearray()
    try:
        async for data in source:
            body += data
            if len(body) > limit:
                raise errors.invalid_response(f"more than {limit} bytes")
    finally:
        await close(source, response)
    return bytes(body)


async def read_counts(source: AsyncGenerator[bytes, None], reply: Reply) -> None:
    """Read what comes behind a reply's end: counts, the end mark, and the end of the body.

    The reply is complete already, whatever happens here, and waits no longer than the two patiences.
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(*errors.TRANSPORT_ERRORS, ProviderError):
        async with asyncio.timeout(DRAIN_PATIENCE if reply.done else COUNTS_PATIENCE) as limit:
            async for data in source:
                was_done = reply.done
                reply.take(data)
                if reply.done and not was_done:
                    limit.reschedule(loop.time() + DRAIN_PATIENCE)
    if not reply.done:
        reply.take_end()


async def close(source: AsyncGenerator[bytes, None], response: httpx.Response) -> None:
    with contextlib.suppress(*errors.TRANSPORT_ERRORS):
        await source.aclose()
    with contextlib.suppress(*errors.TRANSPORT_ERRORS):
        await response.aclose()
