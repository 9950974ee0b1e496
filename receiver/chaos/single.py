"""One Valkey behind a faulty network. ``faults`` has its faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.chaos.processes import HOST, Valkey, free_port
from receiver.chaos.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from redis import Redis


class SingleValkey:
    """A Valkey, and the proxy through which services reach it."""

    settings: Final[Mapping[str, str]] = {}

    def __init__(self, folder: Path) -> None:
        self.valkey = Valkey(folder / "valkey")
        self.proxy = FaultProxy(free_port(), self.valkey.port)

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"redis://{HOST}:{self.proxy.port}/0"

    async def start(self) -> None:
        """Start both."""
        await self.valkey.start()
        await self.proxy.__aenter__()

    async def until_healthy(self) -> None:
        """Wait until the Valkey has loaded its data."""
        await self.valkey.loaded()

    def primaries(self) -> list[Redis]:
        """Return a client that connects directly."""
        return [self.valkey.client()]

    async def end(self) -> None:
        """Kill both."""
        await self.proxy.__aexit__(None, None, None)
        await self.valkey.kill()
