"""Slots: who is let in, who waits and for how long."""

from __future__ import annotations

import asyncio

import pytest

from receiver.errors import OverloadedError
from receiver.web.admission import AdmissionControl, Slots


async def test_a_slot_is_given_back_whatever_happens() -> None:
    """The next one is let in after an error, and after one that has given up waiting."""
    slots = Slots(1, "busy")

    async def fail() -> None:
        async with slots.slot(1):
            with pytest.raises(OverloadedError, match="busy"):
                await slots.slot(0.01).__aenter__()
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await fail()


async def test_what_takes_long_to_read_may_not_wait_for_long() -> None:
    """Behind others a short one is still read in time; a long one is refused while it can be sent again."""
    admission = AdmissionControl(1, 1)
    order: list[str] = []

    async def read(name: str, work: float) -> None:
        try:
            async with admission.tolerant_slot(work):
                order.append(name)
        except OverloadedError:
            order.append(f"{name} refused")

    async with admission.tolerant_slot(0), asyncio.TaskGroup() as tasks:
        long = tasks.create_task(read("long", 0.9))
        short = tasks.create_task(read("short", 0))
        await long
        assert not short.done()
        short.cancel()
    assert order == ["long refused"]
    await read("another", 0.9)
    assert order == ["long refused", "another"]


async def test_large_callbacks_do_not_wait_for_unexpected_ones() -> None:
    """They have slots of their own."""
    admission = AdmissionControl(1, 1)
    async with admission.tolerant_slot(0), admission.large_body_slot(), admission.large_body_slot():
        with pytest.raises(OverloadedError, match="large"):
            async with admission.large_body_slot():
                pytest.fail("there were two slots")
