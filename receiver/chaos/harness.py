"""The processes under test: the services, their Redis servers, and the sender, on free loopback ports."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import aiohttp

from receiver.chaos.ack_log import AckLog
from receiver.chaos.comparison import compare, count_spooled
from receiver.chaos.deployment import Deployment
from receiver.chaos.processes import ReceiverProcess
from receiver.chaos.single import SingleValkey
from receiver.simulator.load import SteadySender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from receiver.chaos.comparison import Comparison
    from receiver.chaos.processes import Valkey
    from receiver.chaos.proxy import FaultProxy

_POLL: Final = 0.05


D = TypeVar("D", bound=Deployment)


class DeploymentHarness(Generic[D]):
    """Starts all parts, and compares the results. Services share one data folder by default."""

    def __init__(  # noqa: PLR0913 the parameters of a run
        self,
        folder: Path,
        redis: D,
        *,
        seed: int = 0,
        services: int = 1,
        rate: float = 2500,
        batch: int = 10,
        twins: float = 0.1,
        max_in_flight: int = 1000,
        share_data: bool = True,
        settings: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        receiver: type[ReceiverProcess] = ReceiverProcess,
    ) -> None:
        """Create the parts; ``redis`` has been created. ``__aenter__`` starts them. ``receiver`` is a service."""
        self.random = random.Random(seed)  # noqa: S311 the order of faults needs no secrecy
        self.ack_log = AckLog()
        self.redis = redis
        data = data_dir or folder / "data"
        self.services = [
            receiver(
                folder / f"service-{number}.log",
                data if share_data else data / str(number),
                redis.url,
                {**redis.settings, **(settings or {})},
            )
            for number in range(services)
        ]
        self.provider = SteadySender(
            [service.url for service in self.services],
            self.ack_log,
            rate=rate,
            batch=batch,
            seed=seed,
            twins=twins,
            max_in_flight=max_in_flight,
        )
        self._traffic: AsyncExitStack | None = None

    @property
    def service(self) -> ReceiverProcess:
        """The first service."""
        return self.services[0]

    async def __aenter__(self) -> Self:
        """Start everything except the traffic."""
        try:
            await self.redis.start()
            await asyncio.gather(*(service.start() for service in self.services))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all parts."""
        await self.stop_traffic()
        await self._end()

    async def start_traffic(self) -> None:
        """Start posting callbacks."""
        self._traffic = AsyncExitStack()
        await self._traffic.enter_async_context(self.provider)

    async def stop_traffic(self) -> None:
        """Finish the callbacks in flight, and stop posting."""
        if self._traffic is not None:
            await self._traffic.aclose()
            self._traffic = None

    async def settled(self, within: float = 30.0) -> bool:
        """Wait until every service publishes to Redis and the spools are empty. Return whether that happened."""
        async with aiohttp.ClientSession() as session:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    while not (await self._all_on_redis(session) and await asyncio.to_thread(self.spooled) == 0):  # noqa: ASYNC110 there is no event to await
                        await asyncio.sleep(_POLL)
                    return True
        return False

    async def until(self, holds: Callable[[], bool], within: float = 20.0) -> None:
        """Wait until a condition holds. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not holds():  # noqa: ASYNC110 there is no event to await
                await asyncio.sleep(_POLL)

    async def route(self, service: ReceiverProcess) -> str:
        """Return the route that /readyz of a service reports; empty if it does not answer."""
        async with aiohttp.ClientSession() as session:
            return await _route(session, service)

    async def ready(self, service: ReceiverProcess) -> dict[str, Any]:
        """Return the answer of /readyz; empty if the service does not answer."""
        async with aiohttp.ClientSession() as session:
            return await _ready(session, service)

    def spooled(self) -> int:
        """Count the events on disk; -1 while a file cannot be read."""
        try:
            return sum(count_spooled(folder) for folder in {service.data_dir for service in self.services})
        except (sqlite3.Error, FileNotFoundError):  # a file is being drained, created or removed
            return -1

    async def comparison(self) -> Comparison:
        """Compare the acks with the streams."""
        await self.redis.until_healthy()
        with contextlib.ExitStack() as clients:
            primaries = [clients.enter_context(client) for client in self.redis.primaries()]
            return await asyncio.to_thread(compare, primaries, self.ack_log)

    async def _all_on_redis(self, session: aiohttp.ClientSession) -> bool:
        return all([await _route(session, service) == "redis" for service in self.services if service.alive])

    async def _end(self) -> None:
        for service in self.services:
            await service.kill()
        await self.redis.end()


class Harness(DeploymentHarness[SingleValkey]):
    """A run with one Valkey behind a faulty network, and with traffic that waits for a service on a busy machine."""

    def __init__(self, folder: Path, **parameters: Any) -> None:  # noqa: ANN401 those of DeploymentHarness
        super().__init__(folder, SingleValkey(folder), **{"max_in_flight": 100, **parameters})

    @property
    def valkey(self) -> Valkey:
        """The Valkey."""
        return self.redis.valkey

    @property
    def proxy(self) -> FaultProxy:
        """The network in front of it."""
        return self.redis.proxy


async def _route(session: aiohttp.ClientSession, service: ReceiverProcess) -> str:
    return str((await _ready(session, service)).get("route", ""))


async def _ready(session: aiohttp.ClientSession, service: ReceiverProcess) -> dict[str, Any]:
    try:
        async with session.get(service.url + "/readyz", timeout=aiohttp.ClientTimeout(total=2)) as response:
            return dict(await response.json())
    except (aiohttp.ClientError, OSError, ValueError):
        return {}
