"""What has to hold at the end of every scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from receiver.proving.report import SLOWEST_ANSWER

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from receiver.proving.stage import Stage


class Survives(Protocol):
    """What the fixture ``survives`` gives."""

    def __call__(self, **scene: Any) -> AbstractAsyncContextManager[Stage]:
        """Set the scene, let it be broken, and check the guarantees."""


async def assert_guarantees(stage: Stage) -> None:
    """Assert that every acknowledged event is in the streams, nothing is there twice, and no answer took too long."""
    verdict = await stage.verdict()
    assert verdict.missing == []
    assert verdict.doubled == []
    assert verdict.strange == 0
    assert stage.ledger.acknowledged > 0
    for segment in stage.ledger.segments:
        assert segment.unanswered == 0
        assert segment.longest() < SLOWEST_ANSWER


def refused(stage: Stage) -> dict[int, int]:
    """Return how many answers were no acks, by HTTP status."""
    return {status: len(times) for segment in stage.ledger.segments for status, times in segment.refusals.items()}
