"""A TCP proxy between the service and Redis that simulates the faults of a network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Self

from receiver.chaos.processes import HOST

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK: Final = 1 << 16
#: Seconds between the bytes of a trickle: a reply of ten bytes takes as long as the publish timeout.
_TRICKLE: Final = 0.05
#: l_onoff, l_linger: closing sends RST instead of FIN.
_RST: Final = struct.pack("ii", 1, 0)


class Mode(Enum):
    """What the proxy does to connections and bytes."""

    PASS = auto()
    #: Open and new connections are reset at once.
    REFUSE = auto()
    #: Connections are accepted and stay open; all bytes are dropped.
    HALF_OPEN = auto()
    #: Bytes are delayed in both directions.
    DELAY = auto()
    #: Replies arrive a byte at a time.
    TRICKLE = auto()


class FaultProxy:
    """Forwards bytes between the service and Redis, and injects the selected fault."""

    def __init__(self, port: int, target_port: int) -> None:
        """``target_port`` is that of Redis."""
        self.port = port
        self._target_port = target_port
        self._mode = Mode.PASS
        self._delay = 0.0
        self._replies_to_drop = 0
        self._pipes: set[_Pipe] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Start listening."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=_CHUNK)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, and reset every connection."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def behave(self) -> None:
        """Forward everything from now on. Reset connections that have lost bytes."""
        damaged = self._mode is Mode.HALF_OPEN
        self._mode, self._delay = Mode.PASS, 0.0
        if damaged:
            self.cut()

    def refuse(self) -> None:
        """Reset open and new connections."""
        self._mode = Mode.REFUSE
        self.cut()

    def half_open(self) -> None:
        """Drop all bytes."""
        self._mode = Mode.HALF_OPEN

    def delay(self, seconds: float) -> None:
        """Delay bytes in each direction."""
        self._mode, self._delay = Mode.DELAY, seconds

    def trickle(self) -> None:
        """Send replies a byte at a time."""
        self._mode = Mode.TRICKLE

    def cut(self) -> None:
        """Reset the open connections. New ones are served."""
        for pipe in list(self._pipes):
            pipe.reset()

    def lead_to(self, port: int) -> None:
        """Connect new connections to another Redis, as a moved name does. Open connections stay."""
        self._target_port = port

    def drop_reply(self) -> None:
        """Drop the reply to the next script call, and with it the connection, as a network would."""
        self._replies_to_drop += 1

    @property
    def dropping(self) -> bool:
        """Whether a reply is still to be dropped."""
        return self._replies_to_drop > 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe(writer)
        self._pipes.add(pipe)
        try:
            if self._mode is Mode.REFUSE:
                return
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(pipe, reader)
        finally:
            pipe.reset()
            self._pipes.discard(pipe)

    async def _serve(self, pipe: _Pipe, reader: asyncio.StreamReader) -> None:
        redis_reader, redis_writer = await asyncio.open_connection(HOST, self._target_port)
        pipe.writers.append(redis_writer)
        there = asyncio.create_task(self._requests(pipe, reader, redis_writer))
        back = asyncio.create_task(self._replies(pipe, redis_reader, pipe.writers[0]))
        _, pending = await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(there, back, return_exceptions=True)

    async def _requests(self, pipe: _Pipe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            if self._mode is Mode.HALF_OPEN:
                continue
            if self._mode is Mode.DELAY:
                await asyncio.sleep(self._delay)
            if self._replies_to_drop and b"EVALSHA" in chunk and not pipe.deaf:
                self._replies_to_drop -= 1
                pipe.deaf = True
            writer.write(chunk)
            await writer.drain()

    async def _replies(self, pipe: _Pipe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            if pipe.deaf:
                return  # Redis has stored the batch; its reply is lost
            if self._mode is Mode.HALF_OPEN:
                continue
            if self._mode is Mode.DELAY:
                await asyncio.sleep(self._delay)
            pieces = [chunk] if self._mode is not Mode.TRICKLE else [bytes([byte]) for byte in chunk]
            for piece in pieces:
                if len(pieces) > 1 and self._mode is Mode.TRICKLE:
                    await asyncio.sleep(_TRICKLE)
                writer.write(piece)
                await writer.drain()


class _Pipe:
    """The two ends of a proxied connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.deaf = False

    def reset(self) -> None:
        for writer in self.writers:
            sock: socket.socket | None = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()
