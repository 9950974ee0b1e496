"""Which streams ``receiver index`` reads: those of the service that it runs beside, or of its own configuration."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.route_overrides import RouteOverrides
from receiver.routing import Routing
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from receiver.environment import Environment
    from receiver.log import Logger
    from receiver.redis_client import Client
    from receiver.settings import Settings

#: Bytes of a line: many times 1,000 streams of many projects.
_MAX_LINE: Final = 64 << 20


class TopicsOfService:
    """The streams that the service writes to stdin, see ``runtime/index_process.py``."""

    def __init__(self) -> None:
        self._topics: list[str] = []
        self._reading: asyncio.Task[None] | None = None

    def topics(self) -> list[str]:
        """Return the streams to read."""
        return self._topics

    async def open(self, _client: Client, stop: asyncio.Event) -> None:
        """Begin to read. The end of the service sets ``stop``."""
        reader = asyncio.StreamReader(_MAX_LINE)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        self._reading = asyncio.create_task(self._read(reader, stop), name="topics")

    async def close(self) -> None:
        """Stop reading."""
        await cancel_and_wait(self._reading)

    async def _read(self, reader: asyncio.StreamReader, stop: asyncio.Event) -> None:
        try:
            while (line := await reader.readline()).endswith(b"\n"):  # not so a line that a kill has cut
                self._topics = msgspec.json.decode(line, type=list[str])
        finally:
            stop.set()


class TopicsOfConfiguration:
    """The streams of the projects, with the routes set at run time. SIGHUP reads the files again."""

    def __init__(self, environment: Environment, settings: Settings, logger: Logger) -> None:
        self._environment = environment
        self._logger = logger
        self._routing = Routing(settings.projects.values())
        self._overrides: RouteOverrides | None = None
        self._asked = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None

    def topics(self) -> list[str]:
        """Return the streams to read."""
        return self._routing.event_topics()

    async def open(self, client: Client, _stop: asyncio.Event) -> None:
        """Follow the routes, and the files at each SIGHUP."""
        overrides = self._overrides = RouteOverrides(client, self._routing, self._logger)
        await overrides.open()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)
        self._reloading = asyncio.create_task(self._reload(overrides), name="reload")

    async def close(self) -> None:
        """Stop following."""
        await cancel_and_wait(self._reloading)
        if self._overrides is not None:
            await self._overrides.close()

    async def _reload(self, overrides: RouteOverrides) -> None:
        while await self._asked.wait():
            self._asked.clear()
            projects = await asyncio.to_thread(self._environment.reload, self._logger, secrets=False)
            if projects is not None:
                self._routing.replace(await overrides.routing_of(projects.values()))
                self._logger.info("settings.reloaded", projects=[*projects.by_id])
