"""The bodies of lookups, read within limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from receiver.errors import ReadTimeoutError, TooLargeError
from receiver.web.smn.faults import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Body = Callable[[web.Request], Awaitable[bytes]]


def reader(timeout: float, max_body: int) -> Body:
    """Return the function that reads a body: ``timeout`` in seconds, ``max_body`` in bytes after decompression.

    It raises ReadTimeoutError (408), TooLargeError (413) and SmnError (400). A body that is read twice comes from
    the wire once, unless its limit is below the application's.
    """

    async def read(request: web.Request) -> bytes:
        try:
            limited = request if max_body >= request.client_max_size else request.clone(client_max_size=max_body)
            async with asyncio.timeout(timeout):
                return await limited.read()
        except TimeoutError:
            raise ReadTimeoutError(f"the body did not arrive within {timeout:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise TooLargeError(f"the body is larger than {max_body} bytes") from None
        except web.RequestPayloadError as error:
            raise MALFORMED.error(f"the body cannot be read: {error}") from None

    return read
