"""The connections to Redis that all lookups share."""

from __future__ import annotations

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis

#: Connections of all lookups together.
_MAX_CONNECTIONS: Final = 50
#: Seconds that a lookup waits for a connection: less than a lookup may take.
_WAIT: Final = 4.0


def pooled(client: Redis) -> Redis:
    """Return a client whose commands wait while all connections are in use; redis-py's default refuses the 101st."""
    pool = client.connection_pool
    return Redis.from_pool(
        BlockingConnectionPool(
            max_connections=_MAX_CONNECTIONS,
            timeout=_WAIT,
            connection_class=pool.connection_class,
            **pool.connection_kwargs,
        )
    )
