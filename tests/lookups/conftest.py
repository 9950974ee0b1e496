"""A real Valkey for the tests of the lookups. LOOKUPS_SERVER=/usr/bin/redis-server runs them on another."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from receiver.embedded import valkey_binary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


def _binary() -> str:
    if "LOOKUPS_SERVER" in os.environ:
        return os.environ["LOOKUPS_SERVER"]
    return str(valkey_binary())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(port: int) -> None:
    client, deadline = BlockingRedis(port=port), time.monotonic() + 10
    while True:
        try:
            client.ping()
        except RedisConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            client.close()
            return


@contextmanager
def _server(port: int, folder: Path) -> Iterator[None]:
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([_binary(), *arguments], stdout=subprocess.DEVNULL)
    try:
        _wait_until_up(port)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Callable[[int], AbstractContextManager[None]]:
    """Start an empty server on a port, for tests that take it away."""
    return lambda port: _server(port, tmp_path)


@pytest.fixture
def free_port() -> int:
    """Find a port for ``server``."""
    return _free_port()


@pytest.fixture(scope="session")
def lookups_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start the server that all other tests of this folder share; its port."""
    port = _free_port()
    with _server(port, tmp_path_factory.mktemp("valkey")):
        yield port


@pytest.fixture
async def lookups_redis(lookups_port: int) -> AsyncIterator[Redis]:
    """Connect a client, after emptying the server."""
    async with Redis(port=lookups_port) as client:
        await client.flushall()
        yield client


async def _contents(redis: Redis, key: bytes) -> Any:
    kind = await redis.type(key)
    if kind == b"hash":
        return await redis.hgetall(key)
    if kind == b"zset":
        return await redis.zrange(key, 0, -1, withscores=True)
    if kind == b"set":
        return await redis.smembers(key)
    return await redis.get(key), await redis.pexpiretime(key)


async def _snapshot(redis: Redis, prefix: str) -> dict[bytes, Any]:
    keys = sorted([key async for key in redis.scan_iter(prefix + "*", count=1000)])
    return {key.removeprefix(prefix.encode()): await _contents(redis, key) for key in keys}


@pytest.fixture
def snapshot() -> Callable[..., Any]:
    """Everything under a prefix, expiry times included."""
    return _snapshot


async def _until(condition: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait until a condition, plain or a coroutine, holds; fail after ten seconds."""
    return _until
