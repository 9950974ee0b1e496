"""The long form: random faults from a seed, one after the other, for as long as told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.proving.faults import FAULTS
from receiver.proving.ledger import CALM
from receiver.proving.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from receiver.proving.checker import Verdict
    from receiver.proving.ledger import Ledger

#: Seconds of peace before each fault, and the shortest fault.
_CALM: Final = 2.0
_SHORTEST: Final = 0.5
#: Seconds for the spool to drain between faults and at the end.
_SETTLE: Final = 120.0
REPLICAS: Final = 2


class Plan(NamedTuple):
    """What to run: names of faults, for how long, in the order of which seed, at how many events a second."""

    faults: Sequence[str]
    minutes: float
    seed: int
    rate: float


class Outcome(NamedTuple):
    """What a campaign found."""

    ledger: Ledger
    verdict: Verdict
    settled: bool
    seconds: float


async def campaign(folder: Path, plan: Plan, say: Callable[[str, float, int], None]) -> Outcome:
    """Run two services that share a spool folder, and break things until the time is up; then compare.

    ``say`` is told the fault of the moment, the seconds gone, and how many events were acknowledged.
    """
    began = time.monotonic()
    end = began + 60 * plan.minutes
    async with Stage(folder, seed=plan.seed, replicas=REPLICAS, rate=plan.rate) as stage:
        await stage.traffic()
        telling = asyncio.create_task(_tell(stage.ledger, began, say))
        try:
            await _break_things(stage, plan.faults, end)
            await stage.quiet()
            settled = await stage.settled(_SETTLE)
        finally:
            telling.cancel()
        verdict = await stage.verdict()
    return Outcome(stage.ledger, verdict, settled, time.monotonic() - began)


async def _break_things(stage: Stage, faults: Sequence[str], end: float) -> None:
    """Run every fault once, in random order, then again in another, until the time is up."""
    while True:
        for name in stage.random.sample(faults, len(faults)):
            stage.ledger.enter(CALM)
            await asyncio.sleep(min(_CALM, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return
            fault = FAULTS[name]
            stage.ledger.enter(name).injected += 1
            longest = max(_SHORTEST, min(fault.longest, (end - time.monotonic()) / 4))
            await fault.run(stage, stage.random.uniform(_SHORTEST, longest))
            await stage.valkey.loaded()
            if stage.random.random() < 0.5:  # noqa: PLR2004 half the time the next fault meets a spool that still drains
                await stage.settled(_SETTLE)


async def _tell(ledger: Ledger, began: float, say: Callable[[str, float, int], None]) -> None:
    while True:
        say(ledger.segment.fault, time.monotonic() - began, ledger.acknowledged)
        await asyncio.sleep(0.2)
