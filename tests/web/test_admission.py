"""What is in work is bounded, and large callbacks have their turns."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from receiver.errors import OverloadedError
from receiver.metrics import OURS
from receiver.web.admission import AdmissionControl


@pytest.fixture
def admission():
    """Return admission control for 100 bytes and 10 events."""
    return AdmissionControl(100, 10)


def figures(admission):
    """Return the gauges."""
    admission.report()
    return [OURS.get_sample_value(f"receiver_in_flight_{what}") for what in ("bytes", "events")]


def test_what_a_callback_holds_is_shown_and_given_back_whatever_becomes_of_it(admission):
    """Also when it is refused half-way."""
    with admission.admit() as one, admission.admit() as other:
        one.add_bytes(40)
        one.add_bytes(20)
        one.add_events(3)
        other.add_bytes(10)
        other.add_events(7)
        assert figures(admission) == [70, 10]
        with pytest.raises(OverloadedError, match="events are in flight"):
            other.add_events(1)
    assert figures(admission) == [0, 0]


def test_just_the_bound_is_taken_and_one_more_is_not(admission):
    """Of bytes and of events."""
    with admission.admit() as one, admission.admit() as other:
        one.add_bytes(60)
        other.add_bytes(40)
        with pytest.raises(OverloadedError, match="bytes are in flight"):
            other.add_bytes(1)
        one.add_events(6)
        other.add_events(4)
        with pytest.raises(OverloadedError, match="events are in flight"):
            one.add_events(1)


def test_one_that_is_alone_is_taken_whatever_its_size(admission):
    """It would never be otherwise. Then nothing goes beside it."""
    with admission.admit() as one, admission.admit() as other:
        one.add_bytes(60)
        one.add_bytes(60)
        one.add_events(11)
        with pytest.raises(OverloadedError):
            other.add_bytes(1)
        with pytest.raises(OverloadedError):
            other.add_events(1)


async def test_two_large_callbacks_are_in_work_at_a_time(admission):
    """A third is refused after half a second, and let in when one of the two has its answer."""
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(admission.large_body_slot())
        await second.enter_async_context(admission.large_body_slot())
        with pytest.raises(OverloadedError, match="large callbacks"):
            async with admission.large_body_slot():
                pass
        waiting = asyncio.create_task(first.enter_async_context(admission.large_body_slot()))
        await second.aclose()
        async with asyncio.timeout(5):
            await waiting


async def test_a_large_callback_that_fails_gives_its_turn_back(admission):
    """However many do."""
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with admission.large_body_slot():
                raise ZeroDivisionError
