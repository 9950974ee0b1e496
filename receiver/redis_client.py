"""The client that readers use, wherever ``REDIS_URL`` leads: one Redis, the primary that Sentinels name, or a cluster.

A command with one key is given to ``on(client, key)``. Work on many keys is done for each group of ``by_primary``, so
that one primary that is away does not hold up the others.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from receiver.redis_cluster import Cluster
from receiver.redis_connection import connect_primary, pooled
from receiver.redis_url import Kind, parse_redis_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Client = Redis | Cluster


def connect(url: str, connections: int | None = None, timeout: float | None = None) -> Client:
    """Return a client that never retries a command by itself. No connection is opened yet.

    With ``connections``, commands wait while that many connections to a node are in use. ``timeout``: seconds for each
    reply. Raises ValidationError.
    """
    place = parse_redis_url(url)
    if place.kind is Kind.CLUSTER:
        return Cluster(place, connections, timeout=timeout)
    client = connect_primary(place, timeout)
    return client if connections is None else pooled(client, connections)


async def open_client(client: Client) -> None:
    """Let a cluster learn where its slots are. Nothing else needs to be opened."""
    if isinstance(client, Cluster):
        await client.open()


def on(client: Client, key: str) -> Redis:
    """Return the client for the primary that holds a key. Raises ClusterDownError while a cluster knows none."""
    return client.on(key) if isinstance(client, Cluster) else client


def primaries(client: Client) -> list[Redis]:
    """Return a client for each primary that is known to hold keys."""
    if isinstance(client, Cluster):
        return [client.at(address) for address in sorted({address for address in client.slots if address is not None})]
    return [client]


def by_primary(client: Client, keys: Iterable[str]) -> list[list[str]]:
    """Return keys in groups, one for each primary."""
    return client.by_primary(keys) if isinstance(client, Cluster) else [list(keys)]


class Script:
    """A Lua script. It is loaded into each primary that does not know it."""

    def __init__(self, client: Client, text: str) -> None:
        self._client = client
        self._text = text
        self._sha = sha1(text.encode()).hexdigest()  # noqa: S324 the name of the script in Redis

    async def __call__(self, keys: Sequence[str], args: Iterable[Any] = ()) -> Any:  # noqa: ANN401 what the script returns
        """Run it where its first key is. Raises the errors of redis-py."""
        arguments = (len(keys), *keys, *args)
        redis = on(self._client, keys[0])
        try:
            return await redis.evalsha(self._sha, *arguments)
        except NoScriptError:
            return await redis.eval(self._text, *arguments)
