"""What a run needs of its Redis servers, and what a fault is.

``single``, ``replicated``, ``sentinels`` and ``cluster`` are deployments. ``faults`` has those of a single Valkey,
``cluster_faults`` those of a cluster; the other two have their faults with them.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from receiver.chaos.processes import ChaosError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from redis import Redis

_POLL: Final = 0.02
#: Seconds for all nodes to be healthy again after a fault.
_HEALTHY_TIMEOUT: Final = 60.0


class Deployment(Protocol):
    """The Redis servers of a run."""

    @property
    def url(self) -> str:
        """The REDIS_URL of the services."""

    @property
    def settings(self) -> Mapping[str, str]:
        """Further settings of the services."""

    async def start(self) -> None:
        """Start all servers; return when they take writes."""

    async def until_healthy(self) -> None:
        """Wait until every server answers, and every replica follows. Raises ChaosError."""

    def primaries(self) -> list[Redis]:
        """Return a client for each primary: together they hold every stream."""

    async def end(self) -> None:
        """Kill all servers."""


class Fault(NamedTuple):
    """A fault, with its name on the command line."""

    name: str
    #: Takes the harness of its deployment, and the seconds for which the fault lasts.
    run: Callable[[Any, float], Awaitable[None]]
    #: The longest time in seconds that is useful in a long run.
    longest: float = 6.0
    linux_only: bool = False

    @property
    def what(self) -> str:
        """The description of the fault: one sentence."""
        return (self.run.__doc__ or "").strip()


async def eventually(holds: Callable[[], bool], what: str, within: float = _HEALTHY_TIMEOUT) -> None:
    """Wait until a condition holds, which is asked in a thread. Raises ChaosError: ``what`` did not happen."""
    end = time.monotonic() + within
    while not await asyncio.to_thread(holds):
        if time.monotonic() > end:
            raise ChaosError(f"{what}: not within {within:.0f} s")
        await asyncio.sleep(_POLL)
