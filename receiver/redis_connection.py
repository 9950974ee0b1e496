"""Connections to one Redis. They repeat no command, and reconnect after an error of the whole server.

Behind a managed Redis, a proxy or a virtual address, the name moves to a new primary. The connections to the old
primary, now a read-only replica, stay open.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import BusyLoadingError, MasterDownError, MovedError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as SlowError

from receiver.redis_sentinel import Sentinels
from receiver.redis_url import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

    from receiver.redis_url import HostPort, RedisLocation

    _Base = AbstractConnection
else:
    _Base = object

#: Seconds to connect.
_CONNECT_TIMEOUT: Final = 5.0
#: Seconds that a command waits for a connection of a bounded pool: less than a lookup may take.
_WAIT: Final = 4.0
#: What a connection tells of itself. Without it redis-py reads its own version from the disk for each connection.
DRIVER: Final = DriverInfo(lib_version=redis.__version__)
_CLASSES: Final = (ReadOnlyError, MasterDownError, BusyLoadingError)
#: Codes of these errors, and of errors without a class in redis-py. Redis 6.2 puts them into the text of a script's
#: error. UNBLOCKED ends a blocking command when its Redis becomes a replica.
_CODES: Final = ("READONLY", "MASTERDOWN", "LOADING", "MISCONF", "NOREPLICAS", "UNBLOCKED")


def concerns_whole_redis(error: BaseException) -> bool:
    """Return whether the server refuses every write or command, so that reconnecting may reach a working one.

    Out of memory is not such an error: the server is the right one, and accepts commands that free memory.
    """
    return isinstance(error, _CLASSES) or (isinstance(error, RedisError) and any(code in str(error) for code in _CODES))


class _Reconnecting(_Base):
    """Reconnects before the next command after such an error. Reports the slots that have moved to another server."""

    moved: Callable[[MovedError], None] | None = None

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 what Redis answers
        try:
            return await super().read_response(*args, **kwargs)
        except MovedError as error:
            if self.moved is not None:
                self.moved(error)
            raise
        except ResponseError as error:  # after LOADING, which is a ConnectionError, redis-py disconnects by itself
            if concerns_whole_redis(error):
                self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise


class _Bounded(_Reconnecting):
    """Also bounds the time for a reply.

    With redis-py's ``socket_timeout`` a command goes out through ``asyncio.wait_for``, which loses cancellations:
    https://github.com/python/cpython/issues/86296.
    """

    seconds: float

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 what Redis answers
        try:
            async with asyncio.timeout(self.seconds):
                return await super().read_response(*args, **kwargs)
        except TimeoutError:
            raise SlowError(f"no answer within {self.seconds:g} s") from None


def renew_refused(
    client: Redis, moved: Callable[[MovedError], None] | None = None, timeout: float | None = None
) -> Redis:
    """Make a client reconnect after errors of the whole server. It must not have connections yet.

    ``timeout``: seconds for each reply.
    """
    pool = client.connection_pool
    original = pool.connection_class
    members: dict[str, Any] = {} if moved is None else {"moved": staticmethod(moved)}
    base = _Reconnecting if timeout is None else _Bounded
    pool.connection_class = type(f"Reconnecting{original.__name__}", (base, original), {**members, "seconds": timeout})
    return client


def connect_primary(location: RedisLocation, timeout: float | None = None) -> Redis:
    """Return a client for the only primary of a location. No connection is opened yet.

    ``timeout``: seconds for each reply.
    """
    if location.kind is Kind.SENTINEL:
        client = Sentinels(location).master_for(location.service, db=location.db, **_options(location))
    else:
        client = Redis.from_url(location.url, **_options(location))
    return renew_refused(client, timeout=timeout)


def connect_node(
    location: RedisLocation, address: HostPort, moved: Callable[[MovedError], None], timeout: float | None = None
) -> Redis:
    """Return a client for one node of a cluster. ``moved`` gets each MOVED reply, ``timeout`` is as above."""
    return renew_refused(Redis(host=address[0], port=address[1], **_options(location)), moved, timeout)


def pooled(client: Redis, connections: int) -> Redis:
    """Return a client whose commands wait while all connections are in use; redis-py's default refuses the 101st."""
    pool = client.connection_pool
    options = pool.connection_kwargs
    if "connection_pool" in options:  # a weak reference, through which a connection asks the Sentinels
        options = {**options, "connection_pool": pool}
    return Redis.from_pool(
        BlockingConnectionPool(
            max_connections=connections, timeout=_WAIT, connection_class=pool.connection_class, **options
        )
    )


def _options(location: RedisLocation) -> dict[str, Any]:
    return {
        **location.options,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "decode_responses": False,
        "driver_info": DRIVER,
    }
