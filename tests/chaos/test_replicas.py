"""Several services at once: the same callback makes one entry, and nobody's spool is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos.guarantees import goes_on, spools

from receiver.chaos.faults import FAULTS

if TYPE_CHECKING:
    from chaos.guarantees import Survives


@pytest.mark.parametrize("share_data", [False, True], ids=["own folders", "one folder"])
async def test_the_same_callbacks_at_once_are_stored_once(survives: Survives, *, share_data: bool) -> None:
    """Two services get every callback at the same moment, and lose Redis in between: one entry each."""
    async with survives(services=2, share_data=share_data, twins=1.0) as harness:
        await FAULTS["redis-killed"].run(harness, 0.5)
        await goes_on(harness)


async def test_a_dead_service_s_spool_is_drained_by_a_living_one(survives: Survives) -> None:
    """One of two that share a folder is killed with events on disk and never comes back: the other publishes them."""
    async with survives(services=2) as harness:
        await harness.valkey.kill()
        await spools(harness, 1000)
        await harness.services[1].kill()
        left = harness.spooled()
        harness.provider.urls.pop()
        await harness.valkey.start()
    assert left > 0
