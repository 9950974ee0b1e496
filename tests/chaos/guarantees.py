"""What has to hold at the end of every scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from commands import Command

from receiver.chaos.harness import Harness
from receiver.chaos.processes import ReceiverProcess
from receiver.chaos.summary import SLOWEST_ANSWER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

#: ``receiver prove`` measures how fast answers are. Here the machine may be busy, and an answer that waits for a Redis
#: that is away, or for a stalled disk, takes longer than this or never comes.
LONGEST_ANSWER = 3 * SLOWEST_ANSWER


class ForkedReceiver(ReceiverProcess):
    """A service that starts fast."""

    def spawn(self, command: list[str], environ: Mapping[str, str] | None = None) -> None:
        """Start it as a fork (``commands``)."""
        assert command[1:3] == ["-m", "receiver"]
        assert environ is not None
        self.process = Command(command[3:], environ, self.log.parent, self.log, self.log)  # type: ignore[assignment]


class Scene(Harness):
    """The parts of a scenario: a Valkey, a network, a service and a sender."""

    def __init__(self, folder: Path, **parameters: Any) -> None:
        super().__init__(folder, receiver=ForkedReceiver, **parameters)


class Survives(Protocol):
    """What the fixture ``survives`` gives."""

    def __call__(self, **scene: Any) -> AbstractAsyncContextManager[Harness]:
        """Set the scene, let it be broken, and check the guarantees."""


async def assert_guarantees(harness: Harness) -> None:
    """Assert that each acknowledged event is in the streams once, and that no answer was missing or took very long."""
    comparison = await harness.comparison()
    assert comparison.missing == []
    assert comparison.doubled == []
    assert comparison.strange == 0
    assert harness.ack_log.acknowledged > 0
    for segment in harness.ack_log.segments:
        assert segment.unanswered == 0
        assert segment.longest() < LONGEST_ANSWER


async def goes_on(harness: Harness, events: int = 300) -> None:
    """Wait until so many more events are acknowledged."""
    before = harness.ack_log.acknowledged
    await harness.until(lambda: harness.ack_log.acknowledged >= before + events, 60)


async def refuses(harness: Harness, more: int = 30) -> None:
    """Wait until so many more callbacks are refused with 503."""
    before = refused(harness).get(503, 0)
    await harness.until(lambda: refused(harness).get(503, 0) >= before + more, 60)


async def spools(harness: Harness, events: int = 300) -> None:
    """Wait until so many events are on the disk."""
    await harness.until(lambda: harness.spooled() >= events, 60)


def published(harness: Harness) -> int:
    """Return how many entries the streams hold."""
    with harness.valkey.client() as client:
        return sum(client.xlen(key) for key in client.scan_iter(match="urn:smn:*", _type="stream"))


def refused(harness: Harness) -> dict[int, int]:
    """Return how many answers were no acks, by HTTP status."""
    return {status: len(times) for segment in harness.ack_log.segments for status, times in segment.refusals.items()}
