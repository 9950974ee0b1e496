"""The bodies of callbacks, read within limits of size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from receiver.errors import InvalidCallbackError, ReadTimeoutError, TooLargeError

if TYPE_CHECKING:
    from aiohttp import StreamReader

    from receiver.delivery.room import Place

#: Bytes of a packed body that are unpacked at a time.
_CHUNK: Final = 256 << 10


class Bodies:
    """Reads bodies. They take room as they arrive: who sends slowly holds no more than was sent."""

    def __init__(self, most: int, timeout: float) -> None:
        """Take the most bytes, after decompression, and the seconds within which they have to be here."""
        self._most = most
        self._timeout = timeout

    async def read(self, request: web.BaseRequest, place: Place) -> bytes:
        """Return a body, unpacked.

        Raises TooLargeError, ReadTimeoutError, OverloadedError when there is no room, and InvalidCallbackError when it
        ends early or is not packed as it says.
        """
        content = request.content
        try:
            if content.is_eof():
                body = content.read_nowait()
                place.take_bytes(len(body))
            elif (request.content_length or 0) > self._most:
                raise self._too_large()
            else:
                async with asyncio.timeout(self._timeout):
                    body = await self._arriving(content, place)
        except TimeoutError:
            raise ReadTimeoutError(f"the body did not arrive within {self._timeout:g} s") from None
        except web.RequestPayloadError as error:
            raise InvalidCallbackError(f"the body cannot be read: {_said(error)}") from None
        if len(body) > self._most:
            raise self._too_large()
        return body

    async def _arriving(self, content: StreamReader, place: Place) -> bytes:
        """Collect a body until it is complete, or larger than it may be."""
        content.set_read_chunk_size(_CHUNK)
        body = bytearray()
        while len(body) <= self._most and (chunk := await content.readany()):
            place.take_bytes(len(chunk))
            body += chunk
        return bytes(body)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the body is larger than {self._most} bytes (RECEIVER_MAX_BODY), after decompression")


def _said(error: web.RequestPayloadError) -> str:
    """Return what aiohttp found wrong with a body, in one line."""
    cause = error.__cause__ if isinstance(error.__cause__, HttpProcessingError) else None
    return " ".join((cause.message if cause else str(error)).split()) or "it ended early"
