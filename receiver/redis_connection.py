"""Connections that are dropped when Redis refuses as a whole: its name may lead to another Redis by now.

Behind a managed Redis, a proxy or a virtual address the name moves to a new primary, while the connections to the old
one, now a read-only replica, stay open.
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
#: The codes of these and of errors that redis-py has no class for. Redis 6.2 has them in the text of a script's error.
#: UNBLOCKED ends a command that waits when its Redis becomes a replica.
_CODES: Final = ("READONLY", "MASTERDOWN", "LOADING", "MISCONF", "NOREPLICAS", "UNBLOCKED")


def concerns_whole_redis(error: BaseException) -> bool:
    """Tell whether a Redis refuses every write, or every command, and the one that its name leads to now may not.

    Out of memory is not among them: that Redis is the right one, and takes the commands that free memory.
    """
    return isinstance(error, _CLASSES) or (isinstance(error, RedisError) and any(code in str(error) for code in _CODES))


class _Renewed(_Base):
    """Connects anew for the next command after such an error."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 what Redis answers
        try:
            return await super().read_response(*args, **kwargs)
        except ResponseError as error:
            if concerns_whole_redis(error):
                self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise


def renew_refused(client: Redis) -> Redis:
    """Let a client, which has no connections yet, drop each one whose Redis refuses as a whole."""
    pool = client.connection_pool
    kind = pool.connection_class
    pool.connection_class = type(f"Renewed{kind.__name__}", (_Renewed, kind), {})
    return client
