"""The long form: random faults from a seed, one after the other, for as long as told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.chaos.ack_log import CALM
from receiver.chaos.faults import FAULTS
from receiver.chaos.harness import Harness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from receiver.chaos.ack_log import AckLog
    from receiver.chaos.comparison import Comparison

#: Seconds of peace before each fault, and the shortest fault.
_CALM: Final = 2.0
_SHORTEST: Final = 0.5
#: Seconds for the spool to drain between faults and at the end.
_SETTLE: Final = 120.0
REPLICAS: Final = 2


class RunPlan(NamedTuple):
    """What to run: names of faults, for how long, in the order of which seed, at how many events a second."""

    faults: Sequence[str]
    minutes: float
    seed: int
    rate: float


class RunOutcome(NamedTuple):
    """What a run_chaos found."""

    ack_log: AckLog
    comparison: Comparison
    settled: bool
    seconds: float


async def run_chaos(folder: Path, plan: RunPlan, say: Callable[[str, float, int], None]) -> RunOutcome:
    """Run two services that share a spool folder, and break things until the time is up; then compare.

    ``say`` is told the fault of the moment, the seconds gone, and how many events were acknowledged.
    """
    began = time.monotonic()
    end = began + 60 * plan.minutes
    async with Harness(folder, seed=plan.seed, replicas=REPLICAS, rate=plan.rate) as harness:
        await harness.traffic()
        telling = asyncio.create_task(_tell(harness.ack_log, began, say))
        try:
            await _break_things(harness, plan.faults, end)
            await harness.quiet()
            settled = await harness.settled(_SETTLE)
        finally:
            telling.cancel()
        comparison = await harness.comparison()
    return RunOutcome(harness.ack_log, comparison, settled, time.monotonic() - began)


async def _break_things(harness: Harness, faults: Sequence[str], end: float) -> None:
    """Run every fault once, in random order, then again in another, until the time is up."""
    while True:
        for name in harness.random.sample(faults, len(faults)):
            harness.ack_log.enter(CALM)
            await asyncio.sleep(min(_CALM, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return
            fault = FAULTS[name]
            harness.ack_log.enter(name).injected += 1
            longest = max(_SHORTEST, min(fault.longest, (end - time.monotonic()) / 4))
            await fault.run(harness, harness.random.uniform(_SHORTEST, longest))
            await harness.valkey.loaded()
            if harness.random.random() < 0.5:  # noqa: PLR2004 half the time the next fault meets a spool that still drains
                await harness.settled(_SETTLE)


async def _tell(ack_log: AckLog, began: float, say: Callable[[str, float, int], None]) -> None:
    while True:
        say(ack_log.segment.fault, time.monotonic() - began, ack_log.acknowledged)
        await asyncio.sleep(0.2)
