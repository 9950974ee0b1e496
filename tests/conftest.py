"""Fixtures with real parts: a Valkey, a Redis 7, the application in this process, the service in one of its own."""

from __future__ import annotations

import gc
import shutil
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import redis.asyncio
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings
from servers import Receiver, RedisServer

from receiver.app import create_app
from receiver.embedded import valkey_binary
from receiver.redis_connection import DRIVER
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from aiohttp import web
    from aiohttp.test_utils import TestClient
    from pytest_aiohttp import AiohttpClient

    Client = TestClient[web.Request, web.Application]

# Machines that run tests are slow at times: a deadline would only make them fail now and then.
settings.register_profile("default", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile("default")


#: Tests below these kill, freeze, starve or attack real processes, wait for what happens once in some seconds, or start
#: a program for each test.
SLOW = (
    "chaos",
    "cli/test_environment.py",
    "cli/test_help.py",
    "cli/test_replay.py",
    "cli/test_simulate.py",
    "cli/test_tail.py",
    "cluster",
    "delivery/test_idle_redis.py",
    "delivery/test_replicas.py",
    "deploy",
    "lookups/test_indexer.py",
    "lookups/test_model.py",
    "lookups/test_signs.py",
    "runtime",
    "simulator",
    "spool/test_reader.py",
    "spool/test_recovery.py",
    "test_dashboard.py",
    "test_deploy.py",
    "test_monitoring.py",
    "test_private.py",
    "test_stopping.py",
    "traced",
    "web/console",
    "web/test_attacks.py",
    "web/test_connections.py",
    "web/test_openapi.py",
    "web/test_ports.py",
    "web/test_providers.py",
)
_QUICK = "not slow"


def is_slow(path: Path) -> bool:
    """Tell whether the tests of a file are slow."""
    return any(path.is_relative_to(Path(__file__).parent / name) for name in SLOW)


def pytest_configure(config: pytest.Config) -> None:
    """Load schemathesis, unless nothing needs it: to import it takes longer than most files of tests."""
    if config.option.markexpr != _QUICK:
        config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the slow files out of the quick loop, ``pytest -m "not slow"``: to collect them takes half of its time."""
    return True if config.option.markexpr == _QUICK and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, and put them first.

    A process takes a file at a time, in this order. A slow one at the end would leave the other processor idle.
    """
    marked = {path for path in {item.path for item in items} if is_slow(path)}
    for item in items:
        if item.path in marked:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path not in marked)


def pytest_collection_finish() -> None:
    """Keep the tests out of garbage collection: they live as long as the process."""
    gc.collect()
    gc.freeze()


class Service(Protocol):
    """Starts the application in this process."""

    async def __call__(self, toml: str | None = None, host: str = "127.0.0.1", **environ: str) -> Client:
        """Wire it with a ``receiver.toml`` and the environment, and return a client for it."""


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Valkey for all tests of this process, as durable as in production."""
    server = RedisServer(valkey_binary(), tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Debian's Redis 7, for what has to work on both."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian's package redis-server): not tested on Redis 7")
    server = RedisServer(binary, tmp_path_factory.mktemp("redis7"))
    yield server
    server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start Valkeys for one test alone, which may fill, stop and kill them."""
    started: list[RedisServer] = []

    def start(port: int | None = None, **options: str) -> RedisServer:
        folder = tmp_path / "own-valkey"
        folder.mkdir(exist_ok=True)
        started.append(RedisServer(valkey_binary(), folder, port, **options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def admin(valkey: RedisServer) -> Iterator[redis.Redis]:
    """Return a client that keeps its connection."""
    with redis.Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
def redis_url(valkey: RedisServer, admin: redis.Redis) -> str:
    """Return the URL of an empty Redis."""
    admin.flushall()
    return valkey.url


@pytest.fixture(name="redis")
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Return a client for the Redis that the application under test writes to."""
    async with redis.asyncio.from_url(redis_url, driver_info=DRIVER) as client:
        yield client


@pytest.fixture
def service(aiohttp_client: AiohttpClient, redis_url: str, tmp_path: Path) -> Service:
    """Start applications in this process, each with a ``receiver.toml`` and an environment of its own."""
    number = count()

    async def start(toml: str | None = None, host: str = "127.0.0.1", **environ: str) -> Client:
        own = {"RECEIVER_DATA_DIR": str(tmp_path / f"data{next(number)}"), "RECEIVER_LOG_LEVEL": "warning", **environ}
        if toml is not None:
            config = tmp_path / "receiver.toml"
            config.write_text(toml, encoding="utf-8")
            own["RECEIVER_CONFIG"] = str(config)
        app = create_app(read_settings(own), own.get("REDIS_URL", redis_url))
        return await aiohttp_client(TestServer(app, host=host))

    return start


@pytest.fixture
async def client(service: Service) -> Client:
    """Return a client for the application as it is without any configuration."""
    return await service()


@pytest.fixture(scope="session")
def receiver(valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One ``receiver serve`` without any configuration, for the tests that do not stop or change it."""
    # On a busy machine half a second may pass without a reply; what is on disk then is not in the stream at once.
    environ = {"REDIS_URL": valkey.url, "RECEIVER_PUBLISH_TIMEOUT": "1.2s"}
    process = Receiver(tmp_path_factory.mktemp("receiver"), environ)
    yield process
    assert process.stop() == 0


@pytest.fixture
def serve(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Start ``receiver serve`` as a process of its own: ``serve(RECEIVER_LOG_LEVEL="debug")``."""
    with starting(redis_url, tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def serve_all(valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Receiver]]:
    """Start one for all tests of a file: a start takes longer than most tests."""
    with starting(valkey.url, tmp_path_factory.mktemp("shared")) as start:
        yield start


@contextmanager
def starting(redis_url: str, folder: Path) -> Iterator[Callable[..., Receiver]]:
    """Give a function that starts receivers, and stop them in the end."""
    started: list[Receiver] = []

    def start(*, wait: bool = True, descriptors: int | None = None, **environ: str) -> Receiver:
        own = {"REDIS_URL": redis_url, **environ}
        started.append(Receiver(folder / f"serve{len(started)}", own, wait=wait, descriptors=descriptors))
        return started[-1]

    yield start
    for process in started:
        process.stop()
