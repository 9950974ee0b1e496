"""Waits until replicas have a batch, so that an acknowledged event survives a fail-over.

https://valkey.io/commands/wait/ and https://valkey.io/commands/waitaof/. Both wait for all that the connection has
written before, so they follow the script calls in the same pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from receiver.errors import WriteFailedError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

#: What replicas may not take of a batch's time, in seconds at least, and as a part. Redis looks for commands that have
#: waited long enough ten times a second, and the replies have to come back.
_RESERVE, _RESERVED_PART = 0.15, 0.2


class ReplicaWait:
    """What to send after the calls of a batch, and what the replies mean."""

    def __init__(self, replicas: int) -> None:
        """``replicas``: how many have to have each batch. With 0 nothing is sent."""
        self.replicas = replicas
        self._on_disk = False

    async def learn(self, connection: AbstractConnection) -> None:
        """Find out whether to wait for the replicas' disks as well, for a new connection.

        They are waited for when the primary itself fsyncs every write before it replies. Then the operator wants an
        event to outlive a power cut, and each replica may be the next primary. Redis has WAITAOF since 7.2. A managed
        Redis may hide its configuration: then the replicas' memory counts.
        """
        if not self.replicas:
            return
        config = await _asked(connection, "CONFIG", "GET", "append*")
        waitaof = await _asked(connection, "WAITAOF", "0", "0", "0")
        if isinstance(config, list):
            config = dict(zip(config[::2], config[1::2], strict=True))
        always = isinstance(config, dict) and (config.get(b"appendonly"), config.get(b"appendfsync"))
        self._on_disk = always == (b"yes", b"always") and not isinstance(waitaof, ResponseError)

    def commands(self, limit: float) -> list[tuple[bytes, ...]]:
        """Return the commands for a batch that may take ``limit`` seconds in all; none without replicas.

        WAIT asks the replicas for their position. WAITAOF alone would wait for their next report, a second later.
        """
        if not self.replicas:
            return []
        wait = max(limit - max(_RESERVE, _RESERVED_PART * limit), limit / 2)
        number, timeout = b"%d" % self.replicas, b"%d" % (1000 * wait)
        memory, disk = (b"WAIT", number, timeout), (b"WAITAOF", b"0", number, timeout)
        return [memory, disk] if self._on_disk else [memory]

    async def read(self, connection: AbstractConnection) -> WriteFailedError | None:
        """Read the replies to ``commands``. Return an error unless enough replicas have the batch."""
        if not self.replicas:
            return None
        problem = await self._shortfall(connection, "have the batch")
        if problem is None and self._on_disk:
            problem = await self._shortfall(connection, "have the batch on disk")
        elif problem is not None and self._on_disk:
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]  # the other reply is still to come
        return None if problem is None else WriteFailedError("replicas", problem)

    async def _shortfall(self, connection: AbstractConnection, what: str) -> str | None:
        try:
            reply = await connection.read_response()
        except ResponseError as error:
            return f"replicas cannot be waited for (RECEIVER_REPLICAS): {error}"
        have = reply[1] if isinstance(reply, list) else reply
        return None if have >= self.replicas else f"{have} of {self.replicas} replicas {what} (RECEIVER_REPLICAS)"


async def _asked(connection: AbstractConnection, *command: str) -> Any:  # noqa: ANN401 what Redis answers
    await connection.send_command(*command)
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
