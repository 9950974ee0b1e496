"""Whatever the network between the service and Redis does, nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from chaos.guarantees import goes_on, refused

from receiver.chaos.faults import FAULTS

if TYPE_CHECKING:
    from chaos.guarantees import Survives

_NETWORK_FAULTS = (
    "connection-cut",
    "connection-refused",
    "half-open",
    "slow-network",
    "trickle",
)


@pytest.mark.parametrize("fault", _NETWORK_FAULTS)
async def test_no_callback_is_refused_lost_or_doubled(survives: Survives, fault: str) -> None:
    """Bytes are reset, swallowed, delayed or dripped, under load: all is acknowledged within 2 s, and there once."""
    async with survives() as harness:
        await FAULTS[fault].run(harness, 1.5)
        await goes_on(harness)
    assert refused(harness) == {}


async def test_a_lost_reply_doubles_nothing(survives: Survives) -> None:
    """Redis has stored a batch and its reply is lost: the batch comes again, from the spool, and is not added twice."""
    async with survives() as harness:
        for _ in range(5):
            harness.proxy.drop_reply()
            await harness.until(lambda: not harness.proxy.dropping)
            await goes_on(harness)


async def test_an_idle_connection_that_was_reset_harms_no_callback(survives: Survives) -> None:
    """The connection is reset between two writes, which uvloop calls a RuntimeError: the ack comes all the same."""
    async with survives(rate=100) as harness:
        for _ in range(30):
            harness.proxy.cut()
            await asyncio.sleep(0.05)
    assert refused(harness) == {}
