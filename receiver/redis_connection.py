"""Redis connections that reconnect after an error of the whole server, to follow a failover.

Behind a managed Redis, a proxy or a virtual address, the name moves to a new primary. The connections to the old
primary, now a read-only replica, stay open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import BusyLoadingError, MasterDownError, ReadOnlyError, RedisError, ResponseError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

    _Base = AbstractConnection
else:
    _Base = object

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
    """Reconnects before the next command after such an error."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 what Redis answers
        try:
            return await super().read_response(*args, **kwargs)
        except ResponseError as error:
            if concerns_whole_redis(error):
                self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise


def renew_refused(client: Redis) -> Redis:
    """Make a client reconnect after errors of the whole server. It must not have connections yet."""
    pool = client.connection_pool
    original = pool.connection_class
    pool.connection_class = type(f"Reconnecting{original.__name__}", (_Reconnecting, original), {})
    return client
