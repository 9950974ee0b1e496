"""What has to hold at the end of every scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from receiver.chaos.summary import SLOWEST_ANSWER

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from receiver.chaos.harness import Harness

#: ``receiver prove`` measures how fast answers are. Here the machine may be busy, and an answer that waits for a Redis
#: that is away, or for a stalled disk, takes longer than this or never comes.
LONGEST_ANSWER = 3 * SLOWEST_ANSWER


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


def refused(harness: Harness) -> dict[int, int]:
    """Return how many answers were no acks, by HTTP status."""
    return {status: len(times) for segment in harness.ack_log.segments for status, times in segment.refusals.items()}
