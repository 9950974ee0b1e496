"""HTTP as bytes on a socket: what no client library would send, and answers as they come."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT = 15.0


class Answer(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def request(body: bytes = b"", path: str = "/sms/callback", method: str = "POST", **headers: str) -> bytes:
    """Return a request; headers are given as ``Content_Type="…"``, and one that is empty is left out."""
    given = {"Host": "localhost", "Content-Length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Wire:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the two ends."""
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes, as far as the other side takes them."""
        self._writer.write(data)
        await asyncio.wait_for(self._writer.drain(), TIMEOUT)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """Read one answer."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), TIMEOUT)
        first, *lines = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = 0 if to_head else int(headers.get("content-length", 0))
        body = await asyncio.wait_for(self._reader.readexactly(size), TIMEOUT)
        return Answer(int(first.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Read until the other side closes."""
        return await asyncio.wait_for(self._reader.read(), TIMEOUT)

    def finish_sending(self) -> None:
        """Close our side of the connection, and go on listening."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def wire(port: int, host: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """Open a connection."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def ask(port: int, data: bytes) -> Answer:
    """Send bytes on a connection of their own and return the answer."""
    async with wire(port) as connection:
        await connection.send(data)
        return await connection.answer()
