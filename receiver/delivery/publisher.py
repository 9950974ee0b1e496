"""Writes entries to Redis streams: one pipeline of script calls over one connection, without hidden retries.

redis-py's own retries would double the entries whose reply was lost. Here only the script is repeated, which knows
what it has added.

Private or undocumented members, with a contract test for each in tests/test_dependencies.py:

- ``hiredis.pack_command`` packs the arguments, four times as fast as redis-py in Python.
- The connection's ``send_packed_command`` and ``read_response`` write many packed commands before reading a reply;
  redis-py's pipeline packs again, and retries.
- ``Connection._writer`` gives the transport. Only its ``abort`` frees what was not sent when Redis stopped reading.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    ResponseError,
    TryAgainError,
)

from receiver import metrics
from receiver.delivery.replicas import ReplicaWait
from receiver.delivery.script_calls import SCRIPT, CurrentWindow, grouped
from receiver.errors import WriteFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

    from receiver.delivery.script_calls import ScriptCall
    from receiver.events import Entry

#: Seconds after which a callback knows whether Redis has it, time in the queue included. With the time that the spool
#: may take, the callback is answered within 2 s. A write with less than the minimum left is not started.
_DEADLINE: Final = 1.25
_MIN_TIME: Final = 0.05
#: How often calls are repeated that Redis did not run, for want of the script or in another dedupe window than ours.
_REPEATS: Final = 3
#: The replies to these: the number of the window, and the error of an unknown script.
_NOT_RUN: Final = (list, NoScriptError)
#: Errors about one key. The second is what Valkey answers inside a script for a key that an access list forbids, the
#: third what Redis answers. All other errors mean that Redis as a whole takes no writes.
_OF_A_TOPIC: Final = (
    "WRONGTYPE",
    "ACL failure in script",
    "The user executing the script can't",
    "exhausted the last possible ID",
    "The ID specified in XADD",
)
#: What a script is answered for a key whose slot has left while it was queued.
_NOT_HERE: Final = "attempted to access a non local key"
#: What a node is answered that the majority of its cluster cannot see, or that has just started: for all slots.
_CLUSTER_IS_DOWN: Final = "The cluster is down"


class Publisher:
    """Writes batches of entries, one at a time over its own connection."""

    def __init__(self, client: Redis, timeout: float, window: float, replicas: int = 0) -> None:
        """``timeout`` is for one batch, ``window`` is the dedupe window; both in seconds.

        ``replicas``: how many have to have a batch before it counts as written.
        """
        self._client = client
        self._timeout = timeout
        self._window = CurrentWindow(window)
        self._replicas = ReplicaWait(replicas)
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.WriteTransport | None = None
        #: The time of the last successful write, on the event loop's clock.
        self.taken_at = 0.0

    async def write(self, entries: list[Entry], since: float | None = None) -> Mapping[str, WriteFailedError]:
        """Add entries to their streams. Return the topics that cannot be written to.

        ``since`` is the time at which the oldest entry was handed in, if a callback waits for its ack. Raises
        WriteFailedError when Redis did not take the entries or did not reply in time. It is then unknown what is
        stored; passing the same entries again is safe.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        waited = 0.0 if since is None else start - since
        limit = self._timeout if since is None else min(self._timeout, _DEADLINE - waited)
        if limit < _MIN_TIME:  # the writes in front of it took all the time: Redis is slower than the traffic
            metrics.PUBLISH_FAILURES.labels("timeout").inc()
            raise WriteFailedError("timeout", f"still queued after {waited * 1000:.0f} ms")
        calls = grouped(entries)
        try:
            async with asyncio.timeout(limit):
                replies, too_few = await self._send(calls, limit)
        except TimeoutError:
            raise await self._write_failed("timeout", f"no reply within {limit * 1000:.0f} ms") from None
        except Exception as error:  # even uvloop's RuntimeError, after a reset of the connection between two writes
            # Drop the connection after any error: the next write would take replies still to come for its own.
            raise await self._write_failed(_reason(error), str(error)) from error
        if too_few is not None and not all(map(_is_refused, replies)):  # else there is nothing to have
            metrics.ADDED.inc(sum(reply for reply in replies if isinstance(reply, int)))
            metrics.PUBLISH_FAILURES.labels(too_few.reason).inc()
            raise too_few
        failed = _outcome(calls, replies)
        self.taken_at = loop.time()
        metrics.PUBLISH.observe(self.taken_at - start)
        metrics.BATCH.observe(len(entries))
        return failed

    async def probe(self, key: bytes = b"receiver:probe") -> None:
        """Make a write without effect, to find out whether writes succeed. Raises WriteFailedError."""
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connected()
                set_key = (b"SET", key, b"1", b"PX", b"1")
                (reply,), too_few = await self._pipeline(connection, [set_key], self._timeout)
        except TimeoutError:
            raise await self._write_failed("timeout", f"no reply within {self._timeout * 1000:.0f} ms") from None
        except Exception as error:  # as in write
            raise await self._write_failed(_reason(error), str(error)) from error
        # The key's slot has moved, or the user may write to topics only: Redis answers, and the next callback finds out
        # the rest.
        if isinstance(reply, AskError):
            return
        if isinstance(reply, ResponseError) and not isinstance(reply, NoPermissionError):
            raise await self._write_failed(_reason(reply), str(reply))
        if too_few is not None:
            raise too_few

    def renew(self) -> None:
        """Reconnect before the next batch: after an outage the name of Redis may lead to another one."""
        if self._connection is not None:
            self._connection.mark_for_reconnect()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()

    async def _send(self, calls: list[ScriptCall], limit: float) -> tuple[list[Any], WriteFailedError | None]:
        connection = await self._connected()
        replies, too_few = await self._pipeline(connection, [self._window.arguments(call) for call in calls], limit)
        for _ in range(_REPEATS):
            not_run = [at for at, reply in enumerate(replies) if isinstance(reply, _NOT_RUN)]
            if not not_run or too_few is not None:  # then the connection may have another reply to come
                break
            await self._prepare(connection, [replies[at] for at in not_run])
            commands = [self._window.arguments(calls[at]) for at in not_run]
            again, too_few = await self._pipeline(connection, commands, limit)
            for at, reply in zip(not_run, again, strict=True):
                replies[at] = reply
        return replies, too_few

    async def _prepare(self, connection: AbstractConnection, replies: list[Any]) -> None:
        """Mend what kept calls from running: Redis was restarted or its scripts were flushed, or a window began."""
        if any(isinstance(reply, NoScriptError) for reply in replies):
            await connection.send_packed_command(_pack(b"SCRIPT", b"LOAD", SCRIPT))
            await connection.read_response()
        for reply in replies:
            if isinstance(reply, list):
                self._window.learn(reply[0])

    async def _pipeline(
        self, connection: AbstractConnection, commands: list[tuple[bytes, ...]], limit: float
    ) -> tuple[list[Any], WriteFailedError | None]:
        """Return the replies to the commands, and an error if too few replicas have what these wrote."""
        sent = commands + self._replicas.commands(limit)
        await connection.send_packed_command([_pack(*command) for command in sent], check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies, await self._replicas.read(connection)

    async def _connected(self) -> AbstractConnection:
        if self._connection is not None and self._connection.should_reconnect():  # type: ignore[no-untyped-call]
            await self._drop()
        if self._connection is None:
            self._connection = await self._client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            writer = self._connection._writer  # noqa: SLF001 see the docstring of this module
            self._transport = None if writer is None else writer.transport
            await self._replicas.learn(self._connection)
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._transport is not None:
                # redis-py closed the transport when the write was cancelled. A closed transport keeps unsent bytes in
                # memory until Redis reads them, which may be never.
                self._transport.abort()
            with contextlib.suppress(Exception):  # the connection is dropped in any case
                await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)

    async def _write_failed(self, reason: str, message: str) -> WriteFailedError:
        metrics.PUBLISH_FAILURES.labels(reason).inc()
        await self._drop()
        return WriteFailedError(reason, message)


def _is_refused(reply: object) -> bool:
    """Return whether Redis has refused a call for good."""
    return isinstance(reply, ResponseError) and not isinstance(reply, _NOT_RUN)


def _pack(*arguments: bytes) -> bytes:
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub says: a tuple of one
    return packed


def _outcome(calls: list[ScriptCall], replies: list[Any]) -> dict[str, WriteFailedError]:
    failed: dict[str, WriteFailedError] = {}
    for call, reply in zip(calls, replies, strict=True):
        if isinstance(reply, int):
            metrics.ADDED.inc(reply)
            metrics.DUPLICATES.inc(len(call.ids) - reply)
            continue
        if isinstance(reply, list):
            raise WriteFailedError("window", f"Redis changed its dedupe window {_REPEATS + 1} times: its clock jumps")
        reason = _reason(reply)
        metrics.PUBLISH_FAILURES.labels(reason).inc()
        if not _is_of_a_topic(reply):
            raise WriteFailedError(reason, str(reply))
        failed[call.topic] = WriteFailedError(reason, f"{call.topic}: {reply}", call.topic)
    return failed


def _is_of_a_topic(reply: ResponseError) -> bool:
    if isinstance(reply, ClusterDownError):
        return not isinstance(reply, MasterDownError) and _CLUSTER_IS_DOWN not in str(reply)
    if isinstance(reply, (NoPermissionError, AskError, TryAgainError)):
        return True
    return any(sign in str(reply) for sign in (*_OF_A_TOPIC, _NOT_HERE))


def _reason(error: BaseException) -> str:
    """Return a short name of a failure: the class of redis-py's error, such as OutOfMemory or ReadOnly."""
    if isinstance(error, ResponseError) and _NOT_HERE in str(error):
        return "TryAgain"  # it means the same: the next attempt finds the slot in one place
    return type(error).__name__.removesuffix("Error")
