"""Batches to a real Redis: through restarts, flushed scripts, time-outs and topics that take nothing."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from receiver.delivery.publisher import CALL_EVENTS, Publisher, _calls, connect
from receiver.errors import NotTakenError
from receiver.events import Entry

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
    assert [len(arguments) // 2 for _, arguments in _calls(many)] == [*[CALL_EVENTS] * 12, 1]
    large = entries(*range(2000, 2008), size=300_000)
    assert [len(arguments) // 2 for _, arguments in _calls(large)] == [3, 3, 2]
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
        with pytest.raises(NotTakenError) as caught:
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
        with pytest.raises(NotTakenError) as caught:
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
    with pytest.raises(NotTakenError) as caught:
        await publish(entries(1, 2))
    assert caught.value.reason == "timeout"
    assert asyncio.get_running_loop().time() - began < 4
    await redis.execute_command("CLIENT UNPAUSE")
    assert not await publish(entries(1, 2, 3))
    assert await stored(redis) == [0, 1, 2, 3]


async def test_a_reply_is_not_taken_for_that_of_the_next_batch(redis, publish):
    """After a time-out the connection is given up, with whatever is still on it."""
    await redis.execute_command("CLIENT PAUSE", 30_000, "WRITE")
    with pytest.raises(NotTakenError):
        await publish(entries(1, topic=OTHER))
    await redis.execute_command("CLIENT UNPAUSE")
    await redis.set(OTHER + ":text", "no stream")
    assert not await publish(entries(1))
    assert list(await publish(entries(2, topic=OTHER + ":text"))) == [OTHER + ":text"]


async def test_a_connection_that_was_closed_meanwhile_costs_one_batch_at_most(redis, publish):
    """A firewall, a restart, an operator; the batch after it is stored."""
    await publish(entries(1))
    await redis.client_kill_filter(_type="normal", skipme=True)
    with contextlib.suppress(NotTakenError):
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
    with pytest.raises(NotTakenError):
        await publisher.write(entries(100))
    with pytest.raises(RedisConnectionError):
        await client.ping()
    own_valkey(port=server.port)
    await publisher.write(entries(*range(101)))
    assert await stored(client) == list(range(101))
    await publisher.close()
    await client.aclose()


async def test_a_probe_is_a_write(redis, redis_url):
    """A Redis that only reads is not back yet."""
    client = connect(redis_url)
    publisher = Publisher(client, 5.0, 86400)
    await publisher.probe()
    await redis.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(NotTakenError):
            await publisher.probe()
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    await publisher.probe()
    await publisher.close()
    await client.aclose()
