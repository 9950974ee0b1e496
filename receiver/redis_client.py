"""The client that readers use, wherever ``REDIS_URL`` leads: one Redis, the primary that Sentinels name, or a cluster.

A command with one key is given to ``on(client, key)``. Work on many keys is done for each group of ``by_primary``, so
that one primary that is away does not hold up the others.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis
from redis.exceptions import MovedError, NoScriptError, RedisError

from receiver.redis_cluster import Cluster
from receiver.redis_connection import connect_primary, pooled
from receiver.redis_url import Kind, parse_redis_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Client = Redis | Cluster

#: Milliseconds that replicas may take to have what a script has written.
_REPLICAS_MS: Final = 1000


class TooFewReplicasError(RedisError):
    """A script has run, and a fail-over may lose what it has written. Run it again."""


def connect(url: str, connections: int | None = None, timeout: float | None = None) -> Client:
    """Return a client that never retries a command by itself. No connection is opened yet.

    With ``connections``, commands wait while that many connections to a node are in use. ``timeout``: seconds for each
    reply. Raises ValidationError.
    """
    location = parse_redis_url(url)
    if location.kind is Kind.CLUSTER:
        return Cluster(location, connections, timeout=timeout)
    client = connect_primary(location, timeout)
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

    def __init__(self, client: Client, text: str, replicas: int = 0) -> None:
        """``replicas``: how many must have what it writes. Its first key has a hash tag then."""
        self._client = client
        self._text = text
        self._sha = sha1(text.encode()).hexdigest()  # noqa: S324 the name of the script in Redis
        self._replicas = replicas

    async def __call__(self, keys: Sequence[str], args: Iterable[Any] = ()) -> Any:  # noqa: ANN401 what the script returns
        """Run it where its first key is. Raises TooFewReplicasError and the errors of redis-py."""
        arguments = (len(keys), *keys, *args)
        if self._replicas:
            return await self._replicated(keys[0], arguments)
        redis = on(self._client, keys[0])
        try:
            return await redis.evalsha(self._sha, *arguments)
        except NoScriptError:
            return await redis.eval(self._text, *arguments)

    async def _replicated(self, key: str, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401 as above
        reply, have = await self._sent("EVALSHA", self._sha, key, arguments)
        if isinstance(reply, MovedError):  # only single commands follow it by themselves
            reply, have = await self._sent("EVALSHA", self._sha, key, arguments)
        if isinstance(reply, NoScriptError):
            reply, have = await self._sent("EVAL", self._text, key, arguments)
        for problem in (reply, have):
            if isinstance(problem, Exception):
                raise problem
        if have < self._replicas:
            raise TooFewReplicasError(f"{have} of {self._replicas} replicas have what was written (RECEIVER_REPLICAS)")
        return reply

    async def _sent(self, command: str, script: str, key: str, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
        """Return the reply of the script, and how many replicas have what it wrote."""
        async with on(self._client, key).pipeline(transaction=False) as pipe:
            pipe.execute_command(command, script, *arguments)
            # WAIT is about what its connection has written. A script that is repeated may have nothing to write.
            pipe.set(f"{key}:written", b"", px=_REPLICAS_MS)
            pipe.execute_command("WAIT", self._replicas, _REPLICAS_MS)
            reply, _, have = await pipe.execute(raise_on_error=False)
        return reply, have
