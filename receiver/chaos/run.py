"""A long run: random faults from a seed, one after the other, for the given time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.chaos import cluster, cluster_faults, faults, replicated, sentinels
from receiver.chaos.ack_log import CALM
from receiver.chaos.harness import DeploymentHarness
from receiver.chaos.single import SingleValkey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from receiver.chaos.ack_log import AckLog
    from receiver.chaos.comparison import Comparison
    from receiver.chaos.deployment import Deployment, Fault

#: Seconds without a fault before each fault, and of the shortest fault.
_CALM: Final = 2.0
_SHORTEST: Final = 0.5
#: Seconds for the spool to drain between faults and at the end.
_SETTLE: Final = 120.0
SERVICES: Final = 2


class DeploymentKind(NamedTuple):
    """A kind of deployment, and the faults that it can have."""

    create: Callable[[Path], Deployment]
    faults: Mapping[str, Fault]


KINDS: Final[Mapping[str, DeploymentKind]] = {
    "single": DeploymentKind(SingleValkey, faults.FAULTS),
    "replicas": DeploymentKind(replicated.ReplicatedValkey, replicated.FAULTS),
    "sentinel": DeploymentKind(sentinels.ValkeySentinels, sentinels.FAULTS),
    "cluster": DeploymentKind(cluster.ValkeyCluster, cluster_faults.FAULTS),
}


class RunPlan(NamedTuple):
    """The kind of deployment, the names of faults, the minutes, the seed of their order, and the events a second."""

    kind: str
    faults: Sequence[str]
    minutes: float
    seed: int
    rate: float


class RunOutcome(NamedTuple):
    """The results of a run."""

    ack_log: AckLog
    comparison: Comparison
    settled: bool
    seconds: float


async def run_chaos(folder: Path, plan: RunPlan, on_progress: Callable[[str, float, int], None]) -> RunOutcome:
    """Run two services that share a spool folder, and inject faults until the time is up; then compare.

    ``on_progress`` gets the current fault, the seconds since the start, and the number of acknowledged events.
    """
    began = time.monotonic()
    end = began + 60 * plan.minutes
    kind = KINDS[plan.kind]
    redis = kind.create(folder)
    async with DeploymentHarness(folder, redis, seed=plan.seed, services=SERVICES, rate=plan.rate) as harness:
        await harness.start_traffic()
        reporting = asyncio.create_task(_report(harness.ack_log, began, on_progress))
        try:
            await _inject(harness, [kind.faults[name] for name in plan.faults], end)
            await harness.stop_traffic()
            settled = await harness.settled(_SETTLE)
        finally:
            reporting.cancel()
        comparison = await harness.comparison()
    return RunOutcome(harness.ack_log, comparison, settled, time.monotonic() - began)


async def _inject(harness: DeploymentHarness[Deployment], chosen: Sequence[Fault], end: float) -> None:
    """Run every fault once, in random order, then again in another, until the time is up."""
    while True:
        for fault in harness.random.sample(chosen, len(chosen)):
            harness.ack_log.enter(CALM)
            await asyncio.sleep(min(_CALM, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return
            harness.ack_log.enter(fault.name).injected += 1
            longest = max(_SHORTEST, min(fault.longest, (end - time.monotonic()) / 4))
            await fault.run(harness, harness.random.uniform(_SHORTEST, longest))
            await harness.redis.until_healthy()
            if harness.random.random() < 0.5:  # noqa: PLR2004 in half the cases the next fault begins while the spool still drains
                await harness.settled(_SETTLE)


async def _report(ack_log: AckLog, began: float, on_progress: Callable[[str, float, int], None]) -> None:
    while True:
        on_progress(ack_log.segment.fault, time.monotonic() - began, ack_log.acknowledged)
        await asyncio.sleep(0.2)
