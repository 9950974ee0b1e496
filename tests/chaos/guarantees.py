"""What has to hold at the end of every scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from receiver.chaos.summary import SLOWEST_ANSWER

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from receiver.chaos.harness import Harness


class Survives(Protocol):
    """What the fixture ``survives`` gives."""

    def __call__(self, **scene: Any) -> AbstractAsyncContextManager[Harness]:
        """Set the scene, let it be broken, and check the guarantees."""


async def assert_guarantees(harness: Harness) -> None:
    """Assert that every acknowledged event is in the streams, nothing is there twice, and no answer took too long."""
    comparison = await harness.comparison()
    assert comparison.missing == []
    assert comparison.doubled == []
    assert comparison.strange == 0
    assert harness.ack_log.acknowledged > 0
    for segment in harness.ack_log.segments:
        assert segment.unanswered == 0
        assert segment.longest() < SLOWEST_ANSWER


def refused(harness: Harness) -> dict[int, int]:
    """Return how many answers were no acks, by HTTP status."""
    return {status: len(times) for segment in harness.ack_log.segments for status, times in segment.refusals.items()}
