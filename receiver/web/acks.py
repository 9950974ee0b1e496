"""Acks, prepared as bytes and written to the connection in one piece.

aiohttp's Response builds its headers for each request, which takes 10 of the 27 µs of a request. An ack is the same
bytes for a whole second, so a prepared one is a single write.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, hdrs, web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.web_request import BaseRequest

    from receiver.providers.base import Answer

#: Makes browsers respect the Content-Type.
_NOSNIFF: Final = "X-Content-Type-Options"
#: Replaces aiohttp's default, which reveals its version and Python's.
_SERVER: Final = "receiver"


def harden(answer: web.StreamResponse) -> None:
    """Set the headers of every response. A prepared ack has them in its bytes."""
    if not isinstance(answer, PreparedAck):
        answer.headers[hdrs.SERVER] = _SERVER
        answer.headers[_NOSNIFF] = "nosniff"


class PreparedAck(web.Response):
    """A response of 200 that consists of prepared bytes."""

    def __init__(self, wire: bytes) -> None:
        """``wire`` is the whole response, head and body."""
        super().__init__()
        self._wire = wire

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Write the response. A closed connection is not an error: the events are stored."""
        self._keep_alive = True
        if request.transport is not None:
            request.transport.write(self._wire)
            await request.writer.drain()  # backpressure for a client that sends without reading
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: ``prepare`` has written everything."""


class Acks:
    """Makes the acks of one provider, rebuilt once a second because the head contains the date."""

    def __init__(self, answer: Answer) -> None:
        self._body = answer.body
        self._type = answer.content_type
        self._second = 0
        self._wire = b""

    def ack(self, request: BaseRequest) -> web.Response:
        """Return the ack in the form that the client's HTTP version and keep-alive need."""
        if request.version != HttpVersion11 or not request.keep_alive:
            return web.Response(body=self._body, content_type=self._type)
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._wire = (
                f"HTTP/1.1 200 OK\r\nContent-Type: {self._type}\r\nContent-Length: {len(self._body)}\r\n"
                f"{_NOSNIFF}: nosniff\r\nDate: {formatdate(second, usegmt=True)}\r\n\r\n"
            ).encode() + self._body
        return PreparedAck(self._wire)
