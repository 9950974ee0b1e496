"""A promoted replica lacks events: none that was acknowledged with RECEIVER_REPLICAS, many without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos.guarantees import ForkedReceiver

from receiver.chaos.harness import DeploymentHarness
from receiver.chaos.replicated import FAULTS, ReplicatedValkey

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("replicas", ["1", "0"])
async def test_what_a_replica_does_not_have_is_not_acknowledged_from_redis(tmp_path: Path, replicas: str) -> None:
    """The link to it is cut, the primary is killed with -9, and the replica is promoted.

    Without the setting this loses events: else the test would prove nothing.
    """
    settings = {"RECEIVER_REPLICAS": replicas, "RECEIVER_PUBLISH_TIMEOUT": "1.2s"}
    async with DeploymentHarness(
        tmp_path, ReplicatedValkey(tmp_path), rate=1000, max_in_flight=100, settings=settings, receiver=ForkedReceiver
    ) as harness:
        await harness.start_traffic()
        await harness.until(lambda: harness.ack_log.segment.acknowledged > 500)
        await FAULTS["replica-cut-off"].run(harness, 1.0)
        await harness.stop_traffic()
        assert await harness.settled()
        comparison = await harness.comparison()
        assert comparison.doubled == []
        assert bool(comparison.missing) == (replicas == "0")
