"""Streams are trimmed by age, but what a group has not acknowledged stays, short of the hard cap."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import from_url
from redis.exceptions import OutOfMemoryError

from receiver.streams.retention import SCRIPT, Retention

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from redis.asyncio import Redis
    from servers import RedisServer

#: Of no project that a service beside these tests has: it would trim them, too.
TOPIC = "urn:smn:local:retention:sms_success"
OTHER = "urn:smn:local:retention:other"
#: Trimming goes by whole nodes of a stream: up to so many entries more than asked for may stay.
NODE = 100
LEASE = "{" + TOPIC + "}:trimmer"
#: Adds entries of one millisecond.
FILL = "for n = 0, ARGV[2] - 1 do redis.call('XADD', KEYS[1], ARGV[1] .. '-' .. n, 'data', ARGV[3]) end"
HOUR = 3600
MILLISECOND = 1000


async def fill(redis: Redis, hours_ago: list[int], each: int = 200, topic: str = TOPIC) -> None:
    """Add entries of so many hours ago, oldest first."""
    for hours in hours_ago:
        at = int((time.time() - hours * HOUR) * MILLISECOND)
        await redis.eval(FILL, 1, topic, at, each, "x" * 50)


async def trim(
    redis: Redis, keep_hours: float, most: int = 10**9, limit: int = 10**6, lease: tuple[str, int] = ("me", 10_000)
) -> list[int]:
    """Run the script once, as Redis runs it."""
    result: list[int] = await redis.eval(
        SCRIPT, 2, TOPIC, LEASE, int(keep_hours * HOUR * MILLISECOND), most, limit, *lease
    )
    return result


async def acknowledge(redis: Redis, name: str, read: int, leave: frozenset[int] = frozenset()) -> None:
    """Create a group that has read so many entries, and acknowledged all but some of them, by their place."""
    await redis.xgroup_create(TOPIC, name, id="0")
    [[_, entries]] = await redis.xreadgroup(name, "one", {TOPIC: ">"}, count=read)
    await redis.xack(TOPIC, name, *[entry_id for place, (entry_id, _) in enumerate(entries) if place not in leave])


async def trimmed(redis: Redis, topic: str) -> None:
    """Wait until a stream has been trimmed."""
    async with asyncio.timeout(10):
        while await redis.xlen(topic) >= NODE:
            await asyncio.sleep(0.01)


def figure(retention: Retention, name: str, **labels: str) -> float | None:
    """Return a metric of a topic or a group; None when there is none."""
    gauges = retention.gauges
    families = text_string_to_metric_families(gauges.exposition(gauges.trimmed).decode())
    samples = [sample for family in families for sample in family.samples]
    return next((one.value for one in samples if one.name == name and one.labels == labels), None)


def reported(retention: Retention, group: str) -> set[str]:
    """Return the metrics that report on a group."""
    families = text_string_to_metric_families(retention.gauges.exposition({}).decode())
    return {one.name for family in families for one in family.samples if one.labels.get("group") == group}


async def said(logs: list[Any], times: int) -> None:
    """Wait until topics have been complained about so many times."""
    async with asyncio.timeout(10):
        while sum(log["event"] == "retention.topic_failed" for log in logs) < times:
            await asyncio.sleep(0.01)


@pytest.fixture
async def start(redis: Redis) -> AsyncIterator[Callable[..., Awaitable[Retention]]]:
    """Start the janitor of one topic."""
    running: list[Retention] = []

    async def start_one(  # noqa: PLR0913 what tests vary
        *,
        groups: tuple[str, ...] = (),
        retention: float = HOUR,
        most: int = 10**9,
        topics: Callable[[], Mapping[str, tuple[str, ...]]] | None = None,
        pause: float = 0.05,
        routed: Callable[[], list[str]] | None = None,
    ) -> Retention:
        logger = structlog.get_logger("test")
        topics = topics or (lambda: {TOPIC: groups})
        running.append(Retention(redis, topics, retention, most, logger, routed=routed, pause=pause))
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


async def test_an_age_beyond_the_beginning_of_time_trims_nothing(redis: Redis) -> None:
    await redis.xadd(TOPIC, {"data": "x"}, id="1-1")
    for _ in range(2 * NODE):
        await redis.xadd(TOPIC, {"data": "x"})
    assert await trim(redis, keep_hours=10**6) == [0, 0]


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


async def test_what_every_group_has_acknowledged_stays_until_its_age(redis: Redis) -> None:
    await fill(redis, [3])
    await acknowledge(redis, "billing", 200)
    assert await trim(redis, keep_hours=4) == [0, 0]


async def test_of_entries_of_one_millisecond_those_that_were_not_read_stay(redis: Redis) -> None:
    await fill(redis, [5], each=400)
    await acknowledge(redis, "billing", 150)
    removed, unread = await trim(redis, keep_hours=1)
    assert 150 - NODE < removed <= 150
    assert unread == 0


async def test_of_entries_of_one_millisecond_those_that_were_not_acknowledged_stay(redis: Redis) -> None:
    await fill(redis, [5], each=400)
    await acknowledge(redis, "billing", 400, leave=frozenset({120}))
    removed, unread = await trim(redis, keep_hours=1)
    assert 120 - NODE < removed <= 120
    assert unread == 0


async def test_what_a_group_that_was_set_back_reads_again_stays(redis: Redis) -> None:
    """It has pending entries, and older ones that it has not read: those count."""
    await fill(redis, [5, 4, 1])
    await redis.xgroup_create(TOPIC, "g", id="0")
    await redis.xreadgroup("g", "c", {TOPIC: ">"}, count=600)
    read = await redis.xrange(TOPIC)
    await redis.xack(TOPIC, "g", *(id_ for id_, _ in read[:590]))
    await redis.xgroup_setid(TOPIC, "g", "0")
    assert await trim(redis, 2) == [0, 0]


async def test_the_service_keeps_what_a_group_has_not_read(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """And trims a stream that nobody reads, in the same round."""
    await fill(redis, [5, 4])
    await fill(redis, [5, 4], topic=OTHER)
    await redis.xgroup_create(TOPIC, "slow", id="0")
    await start(retention=2 * HOUR, topics=lambda: {TOPIC: (), OTHER: ()})
    await trimmed(redis, OTHER)
    assert await redis.xlen(TOPIC) == 400


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


async def test_at_the_hard_cap_only_what_is_too_much_goes(redis: Redis) -> None:
    await fill(redis, [5], each=700)
    await acknowledge(redis, "billing", 600)
    removed, unread = await trim(redis, keep_hours=100, most=500)
    assert 200 - NODE < removed <= 200
    assert unread == 0


async def test_at_the_hard_cap_one_call_removes_no_more_than_its_limit(redis: Redis) -> None:
    await fill(redis, [5], each=700)
    await acknowledge(redis, "billing", 600)
    removed, unread = await trim(redis, keep_hours=100, most=100, limit=200)
    assert 200 - NODE < removed <= 200
    assert unread == 0


async def test_slightly_past_the_hard_cap_only_what_is_too_much_goes(redis: Redis) -> None:
    """Although a node of the stream has more entries than that."""
    await fill(redis, [5], each=10 * NODE)
    await acknowledge(redis, "billing", 10 * NODE)
    assert await trim(redis, keep_hours=100, most=10 * NODE - 3) == [3, 0]
    assert await redis.xlen(TOPIC) == 10 * NODE - 3


async def test_at_the_hard_cap_nothing_that_was_acknowledged_is_counted_as_unread(redis: Redis) -> None:
    """A node of the stream may hold both kinds."""
    await fill(redis, [5], each=300)
    await acknowledge(redis, "billing", 50)
    left = 250 - (await trim(redis, keep_hours=100, most=150))[1]
    assert await redis.xlen(TOPIC) == left
    assert 150 <= left < 150 + NODE


async def test_at_the_hard_cap_the_oldest_go_when_nobody_reads(redis: Redis) -> None:
    await fill(redis, [5], each=400)
    removed, unread = await trim(redis, keep_hours=100, most=150)
    assert (unread, await redis.xlen(TOPIC)) == (0, 400 - removed)
    assert 150 <= 400 - removed < 150 + NODE


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
    retention = await start(groups=("billing",), retention=10 * HOUR)
    labels = {"topic": TOPIC, "group": "billing"}
    async with asyncio.timeout(5):
        while not figure(retention, "receiver_group_oldest_unacknowledged_seconds", **labels):
            await asyncio.sleep(0.01)
    assert figure(retention, "receiver_group_pending_entries", **labels) == 50
    assert figure(retention, "receiver_group_lag_entries", **labels) == 150
    age = figure(retention, "receiver_group_oldest_unacknowledged_seconds", **labels)
    assert age == pytest.approx(2 * HOUR, abs=60)


async def test_an_entry_that_a_group_cannot_process_while_it_goes_on_is_a_metric(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """Its consumer claims it again and again, and acknowledges the others."""
    await redis.xgroup_create(TOPIC, "billing", id="0", mkstream=True)
    retention = await start()

    def stuck() -> float:
        return figure(retention, "receiver_group_stuck_seconds", topic=TOPIC, group="billing") or 0

    poison = await redis.xadd(TOPIC, {"data": "x"})
    await redis.xreadgroup("billing", "one", {TOPIC: ">"})
    async with asyncio.timeout(10):
        while figure(retention, "receiver_group_oldest_deliveries", topic=TOPIC, group="billing") != 1:
            await asyncio.sleep(0.01)
        assert stuck() == 0
        while not stuck() or figure(retention, "receiver_group_oldest_deliveries", topic=TOPIC, group="billing") != 4:
            if not stuck():
                await redis.xadd(TOPIC, {"data": "y"})
                [[_, [(good, _)]]] = await redis.xreadgroup("billing", "one", {TOPIC: ">"})
                await redis.xack(TOPIC, "billing", good)
            else:
                await redis.xclaim(TOPIC, "billing", "one", 0, [poison], retrycount=4)
            await asyncio.sleep(0.01)
        await redis.xack(TOPIC, "billing", poison)
        while stuck():
            await asyncio.sleep(0.01)


async def test_memory_is_a_metric_of_redis_and_of_the_ten_longest_streams(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    topics = {f"{TOPIC}{number}": () for number in range(12)}
    for number, topic in enumerate(topics):
        await fill(redis, [0], each=number + 1, topic=topic)
    retention = await start(topics=lambda: topics)
    async with asyncio.timeout(10):
        while not retention.gauges.memory.streams:
            await asyncio.sleep(0.01)
    assert set(retention.gauges.memory.streams) == set(list(topics)[2:])
    [(used, most)] = retention.gauges.memory.nodes.values()
    assert used > sum(retention.gauges.memory.streams.values()) > 0
    assert most == 0  # the Valkey of these tests has no limit


async def test_dead_letters_are_counted_and_trimmed_at_the_hard_cap_alone(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """Of the age of entries they know nothing. A key of another type is left out."""
    dead = f"{TOPIC}_dead"
    await fill(redis, [100], each=150, topic=dead)
    await redis.set(f"{OTHER}_dead", "in the way")
    retention = await start(topics=lambda: {TOPIC: (), OTHER: ()}, most=200)
    async with asyncio.timeout(10):
        while figure(retention, "receiver_dead_letters", topic=TOPIC) != 150:
            await asyncio.sleep(0.01)
        assert figure(retention, "receiver_dead_letters", topic=OTHER) is None
        assert figure(retention, "receiver_unread_trimmed_total", topic=dead) == 0
        await fill(redis, [50], each=150, topic=dead)
        while not figure(retention, "receiver_unread_trimmed_total", topic=dead):
            await asyncio.sleep(0.01)
    assert 200 <= await redis.xlen(dead) < 200 + NODE
    await redis.delete(f"{OTHER}_dead", dead)


async def test_without_the_permission_to_ask_for_memory_the_rest_goes_on(
    redis_url: str, redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """What cannot be measured is logged once."""
    await redis.acl_setuser("janitor", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info", "-memory"])
    logger = structlog.get_logger("test")
    try:
        async with from_url(redis_url, username="janitor", password="any") as client:
            with structlog.testing.capture_logs() as logs:
                retention = Retention(client, lambda: {TOPIC: ("billing",)}, HOUR, 10**9, logger, pause=0.01)
                retention.start()
                async with asyncio.timeout(10):
                    while len([log for log in logs if log["event"] == "redis.memory_unknown"]) < 2:
                        await asyncio.sleep(0.01)
                    measured = retention.gauges.memory
                    while retention.gauges.memory is measured:  # another round
                        await asyncio.sleep(0.01)
                await retention.close()
    finally:
        await redis.acl_deluser("janitor")
    assert [log["command"] for log in logs if log["event"] == "redis.memory_unknown"] == ["INFO", "MEMORY USAGE"]
    assert retention.gauges.memory == ({}, {})
    assert figure(retention, "receiver_stream_entries", topic=TOPIC) == 0


async def test_a_back_log_goes_in_one_round(redis: Redis, start: Callable[..., Awaitable[Retention]]) -> None:
    """In steps, between which Redis answers others; the next round would be an hour later."""
    await fill(redis, [3], each=25_000)
    await start(pause=HOUR)
    await trimmed(redis, TOPIC)


async def test_what_is_trimmed_is_counted_and_what_was_unread_is_an_error(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """Both counts are there, at 0, before anything is trimmed: an alert sees the first increase."""
    aged, unread = "receiver_trimmed_entries_total", "receiver_unread_trimmed_total"
    topic = TOPIC + "1"
    with structlog.testing.capture_logs() as logs:
        retention = await start(most=150, topics=lambda: {topic: ()})
        async with asyncio.timeout(5):
            while (figure(retention, aged, topic=topic), figure(retention, unread, topic=topic)) != (0, 0):
                await asyncio.sleep(0.01)
        await fill(redis, [3], topic=TOPIC)
        await fill(redis, [0], each=400, topic=TOPIC)
        await redis.xgroup_create(TOPIC, "billing", id=f"{int((time.time() - HOUR) * MILLISECOND)}-0")
        await redis.rename(TOPIC, TOPIC + "1")
        async with asyncio.timeout(5):
            while not figure(retention, unread, topic=topic):
                await asyncio.sleep(0.01)
    lost = 400 - await redis.xlen(TOPIC + "1")
    assert (figure(retention, aged, topic=topic), figure(retention, unread, topic=topic)) == (200, lost)
    assert [(log["event"], log["log_level"], log["count"]) for log in logs if "count" in log] == [
        ("stream.unread_trimmed", "error", lost)
    ]


async def test_a_group_that_is_destroyed_is_reported_on_no_longer(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """Or it would be alarmed on for ever."""
    await fill(redis, [0])
    for name in ("stays", "goes"):
        await redis.xgroup_create(TOPIC, name, id="0")
    retention = await start()
    async with asyncio.timeout(5):
        while not reported(retention, "goes"):
            await asyncio.sleep(0.01)
    await redis.xgroup_destroy(TOPIC, "goes")
    async with asyncio.timeout(5):
        while reported(retention, "goes"):
            await asyncio.sleep(0.01)
    assert reported(retention, "stays") == {
        "receiver_group_lag_entries",
        "receiver_group_pending_entries",
        "receiver_group_oldest_unacknowledged_seconds",
        "receiver_group_oldest_deliveries",
        "receiver_group_stuck_seconds",
    }


async def test_a_topic_that_nothing_is_routed_to_any_more_is_reported_on_no_longer(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    await fill(redis, [0])
    topics: dict[str, tuple[str, ...]] = {TOPIC: (), OTHER: ()}
    retention = await start(topics=lambda: topics)
    async with asyncio.timeout(5):
        while figure(retention, "receiver_stream_entries", topic=OTHER) != 0:
            await asyncio.sleep(0.01)
    del topics[OTHER]
    async with asyncio.timeout(5):
        while figure(retention, "receiver_stream_entries", topic=OTHER) is not None:
            await asyncio.sleep(0.01)
    assert figure(retention, "receiver_stream_entries", topic=TOPIC) == 200


async def test_a_former_topic_is_reported_on_while_it_holds_entries(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """A thousand that hold nothing, made with a token, would be thousands of samples in each scrape."""
    await fill(redis, [0], topic=OTHER)
    retention = await start(topics=lambda: {TOPIC: (), OTHER: ()}, routed=lambda: [TOPIC])
    async with asyncio.timeout(5):
        while figure(retention, "receiver_stream_entries", topic=OTHER) != 200:
            await asyncio.sleep(0.01)
    assert figure(retention, "receiver_trimmed_entries_total", topic=OTHER) == 0
    await redis.delete(OTHER)
    async with asyncio.timeout(5):
        while OTHER in retention.gauges.exposition({}).decode():
            await asyncio.sleep(0.01)
    assert figure(retention, "receiver_stream_entries", topic=TOPIC) == 0


async def test_one_replica_trims_at_a_time(redis: Redis, start: Callable[..., Awaitable[Retention]]) -> None:
    await fill(redis, [0])
    await start()
    await start()
    async with asyncio.timeout(5):
        while not (holder := await redis.get(LEASE)):
            await asyncio.sleep(0.01)
    await fill(redis, [3], topic=OTHER)  # until it is trimmed, two rounds may pass
    await redis.rename(OTHER, TOPIC)
    async with asyncio.timeout(10):
        while await redis.xlen(TOPIC) >= NODE:
            assert await redis.get(LEASE) == holder
            await asyncio.sleep(0.05)
    assert await redis.get(LEASE) == holder


async def test_who_comes_second_trims_when_the_first_is_gone(redis: Redis) -> None:
    await fill(redis, [5])
    await trim(redis, keep_hours=9, lease=("first", 200))
    assert await trim(redis, keep_hours=1, lease=("second", 10_000)) == [0, 0]
    assert (await redis.xlen(TOPIC), await redis.get(LEASE)) == (200, b"first")
    await asyncio.sleep(0.25)
    assert await trim(redis, keep_hours=1, lease=("second", 10_000)) == [200, 0]


async def test_each_turn_renews_the_lease(redis: Redis) -> None:
    await fill(redis, [5])
    await trim(redis, keep_hours=9, lease=("me", 200))
    await trim(redis, keep_hours=9, lease=("me", 60_000))
    assert await redis.pttl(LEASE) > 10_000


async def test_where_there_is_no_stream_there_is_no_lease(redis: Redis) -> None:
    await trim(redis, keep_hours=1)
    assert await redis.keys() == []


async def test_services_with_topics_of_their_own_do_not_wait_for_each_other(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """Two services with different projects share a Redis: both streams are trimmed."""
    for topic in (TOPIC, OTHER):
        await fill(redis, [3], topic=topic)
    await start(topics=lambda: {TOPIC: ()})
    await start(topics=lambda: {OTHER: ()})
    await trimmed(redis, TOPIC)
    await trimmed(redis, OTHER)


async def test_a_redis_that_is_full_is_trimmed(own_valkey: Callable[..., RedisServer]) -> None:
    """The lease cannot be written then, and trimming is what makes room."""
    async with from_url(own_valkey().url) as redis:
        await fill(redis, [5])
        await redis.config_set("maxmemory", "1mb")
        with pytest.raises(OutOfMemoryError):
            await redis.set("anything", 1)
        assert await trim(redis, keep_hours=1) == [200, 0]


async def test_a_topic_that_is_no_stream_holds_up_no_other_and_is_said_once(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    await redis.set(TOPIC, "somebody's")
    await fill(redis, [3], topic=OTHER)
    with structlog.testing.capture_logs() as logs:
        await start(topics=lambda: {TOPIC: ("billing",), OTHER: ("crm",)})
        async with asyncio.timeout(5):
            while not await redis.exists(OTHER) or not await redis.xinfo_groups(OTHER):
                await asyncio.sleep(0.01)
        await redis.xgroup_destroy(OTHER, "crm")
        async with asyncio.timeout(5):  # the next round
            while not await redis.xinfo_groups(OTHER):
                await asyncio.sleep(0.01)
        assert [(log["topic"], log["log_level"], log["error"][:23]) for log in logs if "error" in log] == [
            (TOPIC, "error", "ResponseError: WRONGTYP")
        ]


async def test_a_read_only_replica_is_no_matter_of_its_topics(own_valkey: Callable[..., RedisServer]) -> None:
    """With a thousand topics it would log a thousand errors, beside the one that Redis is away."""
    async with from_url(own_valkey().url) as redis:
        await fill(redis, [3])
        await redis.replicaof("127.0.0.1", 1)
        retention = Retention(redis, lambda: {TOPIC: ()}, HOUR, 10**9, structlog.get_logger("test"), pause=0.01)
        with structlog.testing.capture_logs() as logs:
            retention.start()
            async with asyncio.timeout(5):
                while sum(log["event"] == "retention.paused" for log in logs) < 2:
                    await asyncio.sleep(0.01)
            await retention.close()
    assert {log["event"] for log in logs} == {"retention.paused"}


async def test_what_is_wrong_with_a_topic_is_said_again_when_it_is_something_else(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    await redis.set(TOPIC, "somebody's")
    with structlog.testing.capture_logs() as logs:
        await start()
        await said(logs, 1)
        await redis.delete(TOPIC)
        await fill(redis, [3])
        await trimmed(redis, TOPIC)
        await redis.set(TOPIC, "somebody's")
        await said(logs, 2)


async def test_a_group_whose_name_is_not_utf8_is_looked_after_like_any_other(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    await fill(redis, [3])
    await redis.xgroup_create(TOPIC, b"caf\xe9", id="0")
    retention = await start()
    labels = {"topic": TOPIC, "group": "caf\\xe9"}
    async with asyncio.timeout(5):
        while figure(retention, "receiver_group_lag_entries", **labels) != 200:
            await asyncio.sleep(0.01)
    await redis.xgroup_setid(TOPIC, b"caf\xe9", "$")
    await trimmed(redis, TOPIC)


async def test_whatever_fails_it_is_logged_and_the_next_round_comes(
    redis: Redis, start: Callable[..., Awaitable[Retention]]
) -> None:
    """Topics come from outside: an error that nobody has thought of must not end the trimming."""
    await fill(redis, [3])
    rounds = iter([RuntimeError("unthought of")])

    def topics() -> dict[str, tuple[str, ...]]:
        for error in rounds:
            raise error
        return {TOPIC: ()}

    with structlog.testing.capture_logs() as logs:
        await start(topics=topics)
        await trimmed(redis, TOPIC)
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["retention.failed"]


async def test_a_stop_at_any_moment_ends_it(redis_url: str) -> None:
    """Also at the one of opening a connection at which redis-py loses a cancellation: the service would never end."""
    for turns in range(20):
        async with from_url(redis_url) as client:
            retention = Retention(client, lambda: {TOPIC: ()}, HOUR, 10**9, structlog.get_logger("test"))
            retention.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await retention.close()
