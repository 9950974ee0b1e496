"""Reads request bodies within limits of size and time."""

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
    """Reads bodies. A reservation grows as bytes arrive, so a slow client holds only what it has sent."""

    def __init__(self, max_bytes: int, timeout: float, setting: str | None = None) -> None:
        """``max_bytes`` counts after decompression; ``timeout`` is in seconds.

        ``setting`` names the setting of the limit, for the error message.
        """
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._setting = setting

    async def read(self, request: web.BaseRequest, reservation: Reservation) -> bytes:
        """Return a body, decompressed.

        Raises TooLargeError, ReadTimeoutError, OverloadedError (the reservation is refused), and InvalidCallbackError
        for a body that ends early or does not match its Content-Encoding.
        """
        content = request.content
        encoding = request.headers.get(hdrs.CONTENT_ENCODING)
        try:
            if encoding is None and content.is_eof():
                body = content.read_nowait()
                reservation.add_bytes(len(body))
            elif (request.content_length or 0) > self._max_bytes:
                raise self._too_large()
            else:
                compressed = None if encoding is None else decompressor(encoding)
                async with asyncio.timeout(self._timeout):
                    body = await self._read_chunks(content, reservation, compressed)
        except TimeoutError:
            raise ReadTimeoutError(f"the body did not arrive within {self._timeout:g} s") from None
        except web.RequestPayloadError as error:
            raise InvalidCallbackError(f"the body cannot be read: {_describe(error)}") from None
        except DecompressionError as error:
            raise InvalidCallbackError(str(error)) from None
        if len(body) > self._max_bytes:
            raise self._too_large()
        return body

    async def _read_chunks(
        self, content: StreamReader, reservation: Reservation, compressed: Decompressor | None
    ) -> bytes:
        """Read a body chunk by chunk. Raises TooLargeError as soon as it exceeds the limit."""
        body = bytearray()
        while chunk := await content.readany():
            for number, piece in enumerate((chunk,) if compressed is None else compressed.pieces(chunk)):
                if number:
                    await asyncio.sleep(0)  # lets other requests run between two pieces
                reservation.add_bytes(len(piece))
                body += piece
                if len(body) > self._max_bytes:
                    raise self._too_large()
        if compressed is not None:
            compressed.finish()
        return bytes(body)

    def _too_large(self) -> TooLargeError:
        limit = f"{self._max_bytes} bytes" + (f" ({self._setting})" if self._setting else "")
        return TooLargeError(f"the body is larger than {limit}, after decompression")


def _describe(error: web.RequestPayloadError) -> str:
    """Return aiohttp's reason in one line."""
    cause = error.__cause__ if isinstance(error.__cause__, HttpProcessingError) else None
    return " ".join((cause.message if cause else str(error)).split()) or "it ended early"
