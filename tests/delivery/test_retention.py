"""Streams are trimmed by age, but what a group has not acknowledged stays, short of the hard cap."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import structlog
from prometheus_client.registry import REGISTRY

from receiver.delivery.retention import SCRIPT, Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

TOPIC = "urn:smn:local:default:sms_success"
#: Trimming goes by whole nodes of a stream: up to so many entries more than asked for may stay.
NODE = 100
HOUR = 3600
MILLISECOND = 1000


async def fill(redis: Redis, hours_ago: list[int], each: int = 200) -> None:
    """Add entries of so many hours ago, oldest first."""
    for hours in hours_ago:
        at = int((time.time() - hours * HOUR) * MILLISECOND)
        async with redis.pipeline(transaction=False) as pipe:
            for number in range(each):
                pipe.xadd(TOPIC, {"data": "x" * 50}, id=f"{at}-{number}")
            await pipe.execute()


async def trim(redis: Redis, keep_hours: float, most: int = 10**9, limit: int = 10**6) -> list[int]:
    """Run the script once, as Redis runs it."""
    keep_from = int((time.time() - keep_hours * HOUR) * MILLISECOND)
    result: list[int] = await redis.eval(SCRIPT, 1, TOPIC, keep_from, most, limit)
    return result


@pytest.fixture
async def start(redis: Redis) -> AsyncIterator[Callable[..., Awaitable[Retention]]]:
    """Start the janitor of one topic."""
    running: list[Retention] = []

    async def start_one(groups: tuple[str, ...] = (), retention: float = HOUR, most: int = 10**9) -> Retention:
        logger = structlog.get_logger("test")
        running.append(Retention(redis, lambda: {TOPIC: groups}, retention, most, logger))
        running[-1].start()
        return running[-1]

    yield start_one
    for one in running:
        await one.close()


async def test_entries_past_the_age_go_when_nobody_reads(redis: Redis) -> None:
    await fill(redis, [5, 3, 1])
    removed, unread = await trim(redis, keep_hours=2)
    assert (unread, await redis.xlen(TOPIC)) == (0, 600 - removed)
    assert 400 - NODE < removed <= 400


async def test_an_entry_that_a_group_has_not_read_stays_whatever_its_age(redis: Redis) -> None:
    await fill(redis, [5, 3])
    await redis.xgroup_create(TOPIC, "billing", id="0")
    assert await trim(redis, keep_hours=1) == [0, 0]
    assert await redis.xlen(TOPIC) == 400


async def test_an_entry_that_was_read_and_not_acknowledged_stays(redis: Redis) -> None:
    await fill(redis, [5, 3])
    await redis.xgroup_create(TOPIC, "billing", id="0")
    [[_, entries]] = await redis.xreadgroup("billing", "one", {TOPIC: ">"}, count=400)
    await redis.xack(TOPIC, "billing", *[entry_id for entry_id, _ in entries[:100]])
    await trim(redis, keep_hours=1)
    kept = {entry_id for entry_id, _ in await redis.xrange(TOPIC)}
    assert kept >= {entry_id for entry_id, _ in entries[100:]}
    await redis.xack(TOPIC, "billing", *[entry_id for entry_id, _ in entries])
    await trim(redis, keep_hours=1)
    assert await redis.xlen(TOPIC) < NODE


async def test_the_slowest_group_decides(redis: Redis) -> None:
    await fill(redis, [5, 3])
    for name in ("fast", "slow"):
        await redis.xgroup_create(TOPIC, name, id="0")
    [[_, entries]] = await redis.xreadgroup("fast", "one", {TOPIC: ">"}, count=400)
    await redis.xack(TOPIC, "fast", *[entry_id for entry_id, _ in entries])
    assert await trim(redis, keep_hours=1) == [0, 0]


async def test_the_hard_cap_takes_acknowledged_entries_first(redis: Redis) -> None:
    await fill(redis, [5, 3])
    await redis.xgroup_create(TOPIC, "billing", id="0")
    [[_, entries]] = await redis.xreadgroup("billing", "one", {TOPIC: ">"}, count=200)
    await redis.xack(TOPIC, "billing", *[entry_id for entry_id, _ in entries])
    removed, unread = await trim(redis, keep_hours=100, most=200)
    assert unread == 0
    assert 0 < removed <= 200


async def test_past_the_hard_cap_unread_entries_go_and_are_counted(redis: Redis) -> None:
    await fill(redis, [5, 3])
    await redis.xgroup_create(TOPIC, "billing", id="0")
    removed, unread = await trim(redis, keep_hours=100, most=150)
    assert removed == 0
    assert await redis.xlen(TOPIC) == 400 - unread
    assert 150 <= 400 - unread < 150 + NODE


async def test_one_call_removes_no_more_than_its_limit(redis: Redis) -> None:
    await fill(redis, [5, 4, 3])
    removed, _ = await trim(redis, keep_hours=1, limit=200)
    assert 0 < removed <= 200


async def test_a_missing_stream_is_nothing_to_trim(redis: Redis) -> None:
    assert await trim(redis, keep_hours=1) == [0, 0]


async def test_configured_groups_are_created_at_the_beginning(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    await fill(redis, [0])
    await start(groups=("billing", "crm"))
    async with asyncio.timeout(5):
        while len(await redis.xinfo_groups(TOPIC)) < 2:
            await asyncio.sleep(0.01)
    [[_, entries]] = await redis.xreadgroup("crm", "one", {TOPIC: ">"}, count=1000)
    assert len(entries) == 200


async def test_lag_pending_and_age_are_metrics(redis: Redis, start: Callable[..., Awaitable[Retention]]) -> None:
    await fill(redis, [2])
    await redis.xgroup_create(TOPIC, "billing", id="0")
    await redis.xreadgroup("billing", "one", {TOPIC: ">"}, count=50)
    await start(groups=("billing",), retention=10 * HOUR)
    labels = {"topic": TOPIC, "group": "billing"}
    async with asyncio.timeout(5):
        while not REGISTRY.get_sample_value("receiver_group_oldest_unacknowledged_seconds", labels):
            await asyncio.sleep(0.01)
    assert REGISTRY.get_sample_value("receiver_group_pending_entries", labels) == 50
    assert REGISTRY.get_sample_value("receiver_group_lag_entries", labels) == 150
    age = REGISTRY.get_sample_value("receiver_group_oldest_unacknowledged_seconds", labels)
    assert age == pytest.approx(2 * HOUR, abs=60)


async def test_one_replica_trims_at_a_time(redis: Redis, start: Callable[..., Awaitable[Retention]]) -> None:
    await start()
    await start()
    async with asyncio.timeout(5):
        while not (holder := await redis.get("receiver:retention:lease")):
            await asyncio.sleep(0.01)
    await fill(redis, [3])
    async with asyncio.timeout(10):
        while await redis.xlen(TOPIC) >= NODE:
            await asyncio.sleep(0.05)
    assert await redis.get("receiver:retention:lease") == holder
