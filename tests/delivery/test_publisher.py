"""Batches to a real Redis: through restarts, flushed scripts, time-outs and topics that take nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from receiver.delivery.publisher import Publisher
from receiver.delivery.script_calls import CALL_EVENTS, grouped
from receiver.errors import WriteFailedError
from receiver.events import Entry
from receiver.metrics import OURS
from receiver.redis_client import connect

ONE, OTHER = "urn:smn:local:p:one", "urn:smn:local:p:other"
LAST = 2**64 - 1


def entries(*numbers, topic=ONE, size=0):
    """Return entries by number."""
    return [Entry(topic, number.to_bytes(16, "big"), b"%d" % number + b" " * size) for number in numbers]


@pytest.fixture
async def publish(redis_url):
    """Return a function that writes entries with a publisher of its own connection."""
    client = connect(redis_url)
    publisher = Publisher(client, 2.0, 86400)  # half a second is not always enough on a busy machine

    async def write(batch):
        return await publisher.write(batch)

    yield write
    await publisher.close()
    await client.aclose()


async def stored(redis, topic=ONE):
    """Return the numbers in a stream."""
    return [int(fields[b"data"]) for _, fields in await redis.xrange(topic)]


async def test_a_batch_goes_to_its_topics_in_order(redis, publish):
    """Whatever the order of topics in the batch."""
    assert not await publish(entries(1) + entries(2, topic=OTHER) + entries(3) + entries(4, topic=OTHER))
    assert (await stored(redis), await stored(redis, OTHER)) == ([1, 3], [2, 4])


async def test_a_flushed_script_is_loaded_again(redis, publish):
    """Nobody notices."""
    await publish(entries(1))
    await redis.script_flush()
    assert not await publish(entries(2, 3) + entries(2, topic=OTHER))
    assert await stored(redis) == [1, 2, 3]


async def test_a_call_of_the_script_is_bounded_by_events_and_bytes(redis, publish):
    """Redis answers others in between."""
    many = entries(*range(1201))
    assert [len(call.ids) for call in grouped(many)] == [*[CALL_EVENTS] * 12, 1]
    large = entries(*range(2000, 2008), size=300_000)
    assert [len(call.ids) for call in grouped(large)] == [3, 3, 2]
    huge = entries(3000, size=5_000_000)
    for batch in (many, large, huge):
        await publish(batch)
    assert await stored(redis) == [*range(1201), *range(2000, 2008), 3000]


@pytest.mark.parametrize("broken", ["no stream", "exhausted"])
async def test_a_topic_that_takes_nothing_does_not_harm_the_others(redis, publish, broken):
    """It is told by name, and alone; the rest of the batch is safe."""
    if broken == "no stream":
        await redis.set(OTHER, "a text")
    else:
        await redis.xadd(OTHER, {"data": 0}, id=f"{LAST}-{LAST}")
    failed = await publish(entries(1) + entries(2, topic=OTHER) + entries(3))
    assert list(failed) == [OTHER]
    assert failed[OTHER].topic == OTHER
    assert await stored(redis) == [1, 3]


async def test_a_topic_that_the_access_list_forbids_does_not_harm_the_others(redis, redis_url):
    """An operator's mistake in one project's rights is no reason to call Redis away."""
    await redis.acl_setuser("half", True, reset=True, nopass=True, categories=["+@all"], keys=[ONE, f"{{{ONE}}}*"])  # noqa: FBT003 redis-py's
    client = connect(redis_url.replace("redis://", "redis://half:x@"))
    publisher = Publisher(client, 2, 86400)
    try:
        failed = await publisher.write(entries(1) + entries(2, topic=OTHER) + entries(3))
    finally:
        await publisher.close()
        await client.aclose()
        await redis.acl_deluser("half")
    assert list(failed) == [OTHER]
    assert await stored(redis) == [1, 3]


async def test_a_redis_that_refuses_all_writes_takes_nothing(redis, publish):
    """That is no matter of a topic: all entries go elsewhere."""
    await redis.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(WriteFailedError) as caught:
            await publish(entries(1))
        assert caught.value.topic is None
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    assert not await publish(entries(1))
    assert await stored(redis) == [1]


async def test_a_full_redis_takes_nothing(redis, publish):
    """The reason is a label for the metrics."""
    await publish(entries(0))
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(WriteFailedError) as caught:
            await publish(entries(1))
        assert caught.value.reason == "OutOfMemory"
    finally:
        await redis.config_set("maxmemory", 0)
    assert not await publish(entries(1))
    assert await stored(redis) == [0, 1]


async def test_no_reply_in_time_is_not_taken_and_the_same_again_is_stored_once(redis, publish):
    """What Redis does after the time-out is recognised when it comes again."""
    await publish(entries(0))
    await redis.execute_command("CLIENT PAUSE", 30_000, "WRITE")
    began = asyncio.get_running_loop().time()
    with pytest.raises(WriteFailedError) as caught:
        await publish(entries(1, 2))
    assert caught.value.reason == "timeout"
    assert asyncio.get_running_loop().time() - began < 4
    await redis.execute_command("CLIENT UNPAUSE")
    assert not await publish(entries(1, 2, 3))
    assert await stored(redis) == [0, 1, 2, 3]


async def test_time_in_the_queue_counts_against_the_time_for_a_batch(redis, redis_url):
    """A callback is answered within two seconds, with what the spool may take: Redis has a part of that."""
    client = connect(redis_url)
    publisher = Publisher(client, 1.2, 86400)
    now = asyncio.get_running_loop().time()
    with pytest.raises(WriteFailedError, match="still queued after") as caught:
        await publisher.write(entries(1), now - 1.25)
    assert caught.value.reason == "timeout"
    assert not await redis.exists(ONE)
    await publisher.write(entries(2))
    await redis.client_pause(30_000, all=False)
    with pytest.raises(WriteFailedError, match=r"no reply within (?:[12]\d\d|\d\d) ms"):
        await publisher.write(entries(3), asyncio.get_running_loop().time() - 1.0)
    await redis.client_unpause()
    await publisher.close()
    await client.aclose()


async def test_what_was_not_sent_in_time_is_never_sent(own_valkey):
    """It would stay in memory until Redis reads on, which may be never; the spool has it by then."""
    server = own_valkey()
    client = connect(server.url)
    publisher = Publisher(client, 0.5, 86400)
    await publisher.write(entries(0))
    server.signal(signal.SIGSTOP)
    with pytest.raises(WriteFailedError):
        await publisher.write(entries(*range(1, 65), size=1 << 20))
    server.signal(signal.SIGCONT)
    async with asyncio.timeout(20):
        while len(await client.client_list(_type="normal")) > 1:
            await asyncio.sleep(0.01)
    assert await client.xlen(ONE) < 32  # what the system has in its buffers
    await publisher.close()
    await client.aclose()


async def test_what_became_of_a_batch_is_counted(redis, publish):
    """Added, known already, refused by a topic, refused by Redis."""
    names = ("receiver_stream_entries_added_total", "receiver_duplicate_events_total")
    failures = "receiver_publish_failures_total"

    def figures(reason="OutOfMemory"):
        counts = [OURS.get_sample_value(name) for name in names]
        return [*counts, OURS.get_sample_value(failures, {"reason": reason}) or 0]

    before = figures()
    await publish(entries(1, 2, 3))
    await publish(entries(2, 3, 4))
    assert [now - then for now, then in zip(figures(), before, strict=True)] == [4, 2, 0]
    await redis.config_set("maxmemory", 1)
    with pytest.raises(WriteFailedError):
        await publish(entries(5))
    await redis.config_set("maxmemory", 0)
    assert [now - then for now, then in zip(figures(), before, strict=True)] == [4, 2, 1]
    before = figures("timeout")
    await redis.client_pause(30_000, all=False)
    with pytest.raises(WriteFailedError):
        await publish(entries(6))
    await redis.client_unpause()
    assert figures("timeout")[2] == before[2] + 1


async def test_the_dedupe_window_is_that_of_the_settings(redis, publish):
    """In seconds: ids are kept in a set for each window."""
    windows = {(await redis.time())[0] // 86400}
    await publish(entries(1))
    windows.add((await redis.time())[0] // 86400)
    assert await redis.exists(*(f"{{{ONE}}}:seen:{window}" for window in windows))


async def test_a_publisher_follows_redis_into_the_next_window(redis, redis_url):
    """Redis refuses the calls of a window that has passed, and the publisher makes them again."""
    client = connect(redis_url)
    publisher = Publisher(client, 2.0, 1)
    began, _ = await redis.time()
    written = 0
    while (await redis.time())[0] < began + 2:
        batch = entries(written, written + 1) + entries(written, topic=OTHER)
        assert await publisher.write(batch) == {}
        written += 2
    await publisher.close()
    await client.aclose()
    assert await stored(redis) == list(range(written))
    assert await stored(redis, OTHER) == list(range(0, written, 2))


async def test_a_reply_is_not_taken_for_that_of_the_next_batch(redis, publish):
    """After a time-out the connection is given up, with whatever is still on it."""
    await redis.execute_command("CLIENT PAUSE", 30_000, "WRITE")
    with pytest.raises(WriteFailedError):
        await publish(entries(1, topic=OTHER))
    await redis.execute_command("CLIENT UNPAUSE")
    await redis.set(OTHER + ":text", "no stream")
    assert not await publish(entries(1))
    assert list(await publish(entries(2, topic=OTHER + ":text"))) == [OTHER + ":text"]


async def test_a_connection_that_was_closed_meanwhile_costs_one_batch_at_most(redis, publish):
    """A firewall, a restart, an operator; the batch after it is stored."""
    await publish(entries(1))
    await redis.client_kill_filter(_type="normal", skipme=True)
    with contextlib.suppress(WriteFailedError):
        await publish(entries(2))
    assert not await publish(entries(2))
    assert await stored(redis) == [1, 2]


async def test_a_redis_that_was_killed_and_started_again_has_what_was_acknowledged(own_valkey):
    """And does not take it twice."""
    server = own_valkey()
    client = connect(server.url)
    publisher = Publisher(client, 5.0, 86400)
    await publisher.write(entries(*range(100)))
    server.kill()
    with pytest.raises(WriteFailedError):
        await publisher.write(entries(100))
    with pytest.raises(RedisConnectionError):
        await client.ping()
    own_valkey(port=server.port)
    await publisher.write(entries(*range(101)))
    assert await stored(client) == list(range(101))
    await publisher.close()
    await client.aclose()


async def test_a_probe_by_a_user_who_may_write_to_topics_alone_succeeds(redis, redis_url):
    """Redis is there; whether it takes events, the next ones show."""
    await redis.acl_setuser("half", True, reset=True, nopass=True, categories=["+@all"], keys=["urn:*", "{urn:*"])  # noqa: FBT003 redis-py's
    client = connect(redis_url.replace("redis://", "redis://half:x@"))
    publisher = Publisher(client, 2, 86400)
    try:
        await publisher.probe()
    finally:
        await publisher.close()
        await client.aclose()
        await redis.acl_deluser("half")


async def test_a_probe_is_a_write(redis, redis_url):
    """A Redis that only reads is not back yet."""
    client = connect(redis_url)
    publisher = Publisher(client, 5.0, 86400)
    await publisher.probe()
    await redis.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(WriteFailedError):
            await publisher.probe()
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    await publisher.probe()
    await publisher.close()
    await client.aclose()
