"""Bodies of requests, read within limits of size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from receiver.errors import InvalidCallbackError, ReadTimeoutError, TooLargeError
from receiver.web.decompression import DecompressionError, decompressor

if TYPE_CHECKING:
    from aiohttp import StreamReader

    from receiver.web.admission import Reservation
    from receiver.web.decompression import Decompressor


class Bodies:
    """Reads bodies. They take room as they arrive: who sends slowly holds no more than was sent."""

    def __init__(self, most: int, timeout: float, setting: str | None = None) -> None:
        """Take the most bytes, after decompression, and the seconds within which they have to be here.

        ``setting`` is what sets the limit, for the person who meets it.
        """
        self._most = most
        self._timeout = timeout
        self._setting = setting

    async def read(self, request: web.BaseRequest, reservation: Reservation) -> bytes:
        """Return a body, decompressed.

        Raises TooLargeError, ReadTimeoutError, OverloadedError when there is no room, and InvalidCallbackError when it
        ends early or is not compressed as it says.
        """
        content = request.content
        encoding = request.headers.get(hdrs.CONTENT_ENCODING)
        try:
            if encoding is None and content.is_eof():
                body = content.read_nowait()
                reservation.take_bytes(len(body))
            elif (request.content_length or 0) > self._most:
                raise self._too_large()
            else:
                compressed = None if encoding is None else decompressor(encoding)
                async with asyncio.timeout(self._timeout):
                    body = await self._arriving(content, reservation, compressed)
        except TimeoutError:
            raise ReadTimeoutError(f"the body did not arrive within {self._timeout:g} s") from None
        except web.RequestPayloadError as error:
            raise InvalidCallbackError(f"the body cannot be read: {_describe(error)}") from None
        except DecompressionError as error:
            raise InvalidCallbackError(str(error)) from None
        if len(body) > self._most:
            raise self._too_large()
        return body

    async def _arriving(
        self, content: StreamReader, reservation: Reservation, compressed: Decompressor | None
    ) -> bytes:
        """Collect a body until it is complete, or larger than it may be."""
        body = bytearray()
        while chunk := await content.readany():
            for number, piece in enumerate((chunk,) if compressed is None else compressed.pieces(chunk)):
                if number:
                    await asyncio.sleep(0)  # other requests have their turn between two pieces
                reservation.take_bytes(len(piece))
                body += piece
                if len(body) > self._most:
                    raise self._too_large()
        if compressed is not None:
            compressed.finish()
        return bytes(body)

    def _too_large(self) -> TooLargeError:
        limit = f"{self._most} bytes" + (f" ({self._setting})" if self._setting else "")
        return TooLargeError(f"the body is larger than {limit}, after decompression")


def _describe(error: web.RequestPayloadError) -> str:
    """Return what aiohttp found wrong with a body, in one line."""
    cause = error.__cause__ if isinstance(error.__cause__, HttpProcessingError) else None
    return " ".join((cause.message if cause else str(error)).split()) or "it ended early"
