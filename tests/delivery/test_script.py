"""publish.lua on Valkey and on Redis 7: once in the stream, and what is not in the stream is not marked as seen."""

from __future__ import annotations

import random

import pytest
import redis.asyncio
import structlog
from redis.crc import key_slot
from redis.exceptions import ResponseError

from receiver.delivery.dedupe_window import KEY, DedupeWindow, window_in_force
from receiver.delivery.script_calls import SCRIPT, seen_keys

TOPIC = "urn:smn:local:default:sms_success"
WINDOW = 86400
LAST = 2**64 - 1


@pytest.fixture(params=["valkey", "redis7"])
async def server(request):
    """Return a client of an empty server of each kind."""
    async with redis.asyncio.from_url(request.getfixturevalue(request.param).url) as client:
        await client.flushall()
        yield client
        await client.config_set("maxmemory", 0)


@pytest.fixture
def publish(server):
    """Call the script with the numbers of events, by a caller who is so many windows ``off``; an id is 16 bytes."""

    async def call(*numbers, topic=TOPIC, client=server, off=0):
        now = await bucket(server) + off
        ids = [number.to_bytes(16, "big") for number in numbers]
        entries = [b"data %d" % number for number in numbers]
        return await client.register_script(SCRIPT)([topic, *seen_keys(topic, now)], [WINDOW, now, *ids, *entries])

    return call


@pytest.fixture
async def half(server):
    """Return a client whose user may do everything, until a test forbids it something with ``ACL SETUSER half``."""
    await server.acl_setuser("half", True, reset=True, nopass=True, categories=["+@all"], keys=["*"])  # noqa: FBT003 redis-py's
    at = server.connection_pool.connection_kwargs
    async with redis.asyncio.Redis(host=at["host"], port=at["port"], username="half", password="x") as client:
        yield client
    await server.acl_deluser("half")


async def stored(server, topic=TOPIC):
    """Return the numbers in the stream."""
    entries = await server.xrange(topic)
    assert all(set(fields) == {b"data"} for _, fields in entries)
    return [int(fields[b"data"].split()[1]) for _, fields in entries]


async def bucket(server):
    """Return the number of the current window by the server's clock."""
    return (await server.time())[0] // WINDOW


def seen(number, topic=TOPIC):
    """Return the name of the set of ids seen in a window."""
    return f"{{{topic}}}:seen:{number}"


async def marked(server):
    """Return the numbers that are marked as seen in this window."""
    return {int.from_bytes(id_, "big") for id_ in await server.smembers(seen(await bucket(server))) if id_}


async def test_new_events_are_added_in_their_order(server, publish):
    """And the reply says how many."""
    assert await publish(3, 1, 2) == 3
    assert await stored(server) == [3, 1, 2]


async def test_an_event_is_added_once_within_a_call_and_across_calls(server, publish):
    """The first of a kind is."""
    assert await publish(1, 1, 2, 1) == 2
    assert await publish(2, 3, 2) == 1
    assert await publish(1, 2, 3) == 0
    assert await stored(server) == [1, 2, 3]


async def test_topics_do_not_share_what_they_have_seen(server, publish):
    """After a change of routes an event may be in both."""
    other = "urn:smn:local:default:other"
    assert await publish(1) == await publish(1, topic=other) == 1
    assert await stored(server, other) == [1]


async def test_an_event_is_known_in_the_next_window_and_forgotten_in_the_one_after(server, publish):
    """So it is known for one to two windows, whenever it came."""
    await publish(1)
    now = await bucket(server)
    await server.rename(seen(now), seen(now - 1))
    assert await publish(1, 2) == 1
    assert await marked(server) == {2}
    await server.rename(seen(now - 1), seen(now - 2))
    assert await publish(1, 2) == 1
    assert await stored(server) == [1, 2, 1]


async def test_what_was_seen_expires_with_the_end_of_the_next_window(server, publish):
    """Nothing is left behind by a topic that falls silent."""
    await publish(1)
    now = await bucket(server)
    assert await server.expiretime(seen(now)) == (now + 2) * WINDOW
    await publish(2)
    assert await server.expiretime(seen(now)) == (now + 2) * WINDOW


async def test_all_keys_are_in_the_cluster_slot_of_the_stream(server, publish):
    """The topic stands in braces in the names of the sets, so a cluster runs the script."""
    await publish(1)
    names = await server.keys()
    assert len(names) == 2
    assert {key_slot(name) for name in names} == {key_slot(TOPIC.encode())}


async def test_an_add_that_fails_half_way_marks_only_what_was_added(server, publish):
    """A stream whose last id is two below the greatest takes two more: the third is not lost when it comes again."""
    await server.xadd(TOPIC, {"data": "data 0"}, id=f"{LAST}-{LAST - 2}")
    with pytest.raises(ResponseError, match=r"exhausted|equal or smaller"):
        await publish(1, 2, 3, 4)
    assert await stored(server) == [0, 1, 2]
    await server.delete(TOPIC)
    assert await publish(1, 2, 3, 4) == 2
    assert await stored(server) == [3, 4]


async def test_a_key_that_is_no_stream_takes_nothing_and_nothing_is_marked(server, publish):
    """The error says so."""
    await server.set(TOPIC, "a text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await publish(1)
    assert await marked(server) == set()
    await server.delete(TOPIC)
    assert await publish(1) == 1


async def test_a_set_of_the_wrong_type_is_an_error_before_anything_is_added(server, publish):
    """Adding without being able to mark would double the next time."""
    await server.set(seen(await bucket(server)), "a text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await publish(1)
    assert not await server.exists(TOPIC)


@pytest.mark.parametrize("forbidden", ["-sadd", "-expireat", "-srem"])
async def test_a_user_who_may_add_and_not_mark_adds_nothing(server, publish, half, forbidden):
    """Each retry would add it all again, without end; or, without SREM, a failed one would lose it."""
    await server.execute_command("ACL", "SETUSER", "half", forbidden)
    for _ in range(2):
        with pytest.raises(ResponseError, match=r"ACL failure|The user executing the script"):
            await publish(1, client=half)
    assert not await server.exists(TOPIC)


async def test_a_user_who_may_mark_and_not_add_marks_nothing(server, publish, half):
    """Else the event would be lost once the operator has mended the rights."""
    await server.execute_command("ACL", "SETUSER", "half", "-xadd")
    with pytest.raises(ResponseError, match=r"ACL failure|The user executing the script"):
        await publish(1, 2, client=half)
    assert await marked(server) == set()
    assert await publish(1, 2) == 2


async def test_a_caller_in_another_window_is_told_the_right_one_and_nothing_is_done(server, publish):
    """Redis' clock decides; a receiver's may be behind, or ahead."""
    now = await bucket(server)
    assert await publish(1, off=-1) == await publish(1, off=1) == await publish(1, off=-1000) == [now]
    assert await server.keys() == []


async def test_an_event_is_known_although_the_clock_was_set_back_into_the_window_before(server, publish):
    """By NTP, or by a replica with a slower clock that took over, just after midnight."""
    await publish(1)
    now = await bucket(server)
    await server.rename(seen(now), seen(now + 1))
    assert await publish(1, 2) == 1
    assert await stored(server) == [1, 2]


async def test_without_memory_nothing_is_added_and_nothing_is_marked(server, publish):
    """With memory again, everything is."""
    await publish(1)
    await server.config_set("maxmemory", 1)
    with pytest.raises(ResponseError, match=r"OOM|maxmemory"):
        await publish(2, 3)
    await server.config_set("maxmemory", 0)
    assert await publish(1, 2, 3) == 2
    assert await stored(server) == [1, 2, 3]


async def test_a_call_fits_many_times_the_events_that_the_publisher_puts_into_one(server, publish):
    """Beyond Lua's own bound it is an error, and nothing is marked."""
    assert await publish(*range(500)) == 500
    assert await publish(*range(250, 750)) == 250
    with pytest.raises(ResponseError, match="too many results to unpack"):
        await publish(*range(9000))
    assert await stored(server) == list(range(750))
    assert await marked(server) == set(range(750))


async def exhausted(server):
    """Let the stream take two entries more, and no third."""
    await server.xadd(TOPIC, {"data": "data 0"}, id=f"{LAST}-{LAST - 2}")


async def no_stream(server):
    """Put a text in the place of the stream."""
    await server.delete(TOPIC)
    await server.set(TOPIC, "a text")


async def no_memory(server):
    """Leave no memory."""
    await server.config_set("maxmemory", 1)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_fails_half_way_an_event_that_is_sent_until_it_succeeds_is_in_the_stream_once(
    server, publish, seed
):
    """A mark without its entry would lose the event, an entry without its mark would double it.

    Batches overlap at random, within a call, with earlier calls and with the window before.
    """
    draw, found = random.Random(seed), []  # noqa: S311 no secret
    now = await bucket(server)
    for round_ in range(30):
        batch = draw.choices(range(1, 10 * round_ + 12), k=draw.randint(1, 40))
        if round_ == 15:
            await server.rename(seen(now), seen(now - 1))
        if fault := draw.choice([None, exhausted, no_stream, no_memory]):
            found += await stored(server)
            await server.delete(TOPIC)
            await fault(server)
            try:
                await publish(*batch)
            except ResponseError:
                await server.config_set("maxmemory", 0)
            found += await stored(server) if fault is not no_stream else []
            await server.delete(TOPIC)
        await publish(*batch)
        ids = await server.sunion(seen(now), seen(now - 1))
        everything = [number for number in found + await stored(server) if number]
        assert sorted(everything) == sorted(int.from_bytes(id_, "big") for id_ in ids if id_)
        assert set(batch) <= set(everything)


async def test_ids_are_bytes_and_not_text(server, publish):
    """Nulls, line ends and bytes that are no UTF-8 tell ids apart."""
    numbers = [0, 10, 13, 255 << 120, (255 << 120) + 10, 2**128 - 1]
    assert await publish(*numbers) == len(numbers)
    assert await publish(*numbers) == 0


async def test_a_service_with_another_window_tells_and_commands_take_over_the_one_in_force(server):
    """The sets of the other window are not looked at, so its ids are forgotten."""
    logger = structlog.get_logger("test")
    with structlog.testing.capture_logs() as logs:
        for seconds in (7200, 7200, 3600):
            window = DedupeWindow(server, seconds, logger)
            await window.open()
            await window.close()
    assert [(log["event"], log["own_seconds"], log["other_seconds"]) for log in logs] == [
        ("dedupe.window_differs", 3600, 7200)
    ]
    assert await window_in_force(server) == 3600
    assert 7100 < await server.ttl(KEY) <= 7200, "as long as any of its ids"


async def test_a_window_that_nobody_announced_or_may_read_is_unknown(server):
    assert await window_in_force(server) is None
    await server.lpush(KEY, "of another program")
    assert await window_in_force(server) is None
    with structlog.testing.capture_logs() as logs:
        window = DedupeWindow(server, 3600, structlog.get_logger("test"))
        await window.open()
        await window.close()
    assert [log["event"] for log in logs] == ["dedupe.window_not_announced"]
