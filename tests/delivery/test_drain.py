"""From the spool back to Redis: everything, once, whoever wrote it, past topics and files that are broken."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest
import structlog

from receiver.delivery.drain import Drain
from receiver.delivery.node import BATCH
from receiver.delivery.topology import topology
from receiver.errors import WriteFailedError
from receiver.events import Entry
from receiver.settings import Settings
from receiver.spool.directory import file_of
from receiver.spool.file import lock_file
from receiver.spool.spool import Spool

GOOD, BLOCKED = "urn:smn:local:p:good", "urn:smn:local:p:blocked"
MOST = 1 << 30
LOGGER = structlog.stdlib.get_logger()


def entries(*numbers, topic=GOOD):
    """Return entries by number."""
    return [Entry(topic, number.to_bytes(16, "big"), b"%d" % number) for number in numbers]


@pytest.fixture
async def spool(tmp_path):
    """Return an open spool."""
    opened = Spool(tmp_path / "spool", MOST)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def primaries(redis_url):
    """Return the only primary."""
    made = topology(redis_url, Settings(publish_timeout=1.2), lambda: None, LOGGER)
    await made.open()
    yield made
    await made.finish()
    await made.close()


@pytest.fixture
async def drain(spool, primaries):
    """Return a drain that is not started."""
    made = Drain(spool, primaries, LOGGER)
    yield made
    await made.close()


async def stored(redis, topic=GOOD):
    """Return the numbers in a stream."""
    return [int(fields[b"data"]) for _, fields in await redis.xrange(topic)]


async def until(condition, seconds=5):
    """Await a condition that the drain brings about."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_what_waits_on_disk_goes_to_redis_over_several_connections(spool, drain, primaries, redis):
    """Everything arrives once, and is then no longer on disk; the order holds within a connection's share."""
    # As a probe does before each drain: calls that a Redis without the script does not run come after later ones.
    await primaries.drain(entries(0, topic="urn:smn:local:p:other"))
    await spool.write(entries(*range(5 * BATCH)), 0)
    drain.start()
    await until(lambda: _empty(spool))
    found = await stored(redis)
    assert sorted(found) == list(range(5 * BATCH))
    shares = [[number for number in found if number // BATCH == share] for share in range(5)]
    assert all(share == sorted(share) for share in shares)


async def _empty(spool):
    return spool.file is not None and spool.file.count() == 0  # None while an emptied file is being replaced


async def test_what_redis_has_already_is_not_added_again(spool, drain, primaries, redis):
    """A time-out had said nothing about it."""
    await primaries.drain(entries(1, 2))
    await spool.write(entries(1, 2, 3), 0)
    drain.start()
    await until(lambda: _empty(spool))
    assert await stored(redis) == [1, 2, 3]


async def test_the_spool_of_a_process_that_is_gone_is_drained_too(spool, drain, redis):
    """Its file's lock is free. That of a living process is left alone."""
    gone, living = lock_file(file_of(spool.folder, 1), MOST), lock_file(file_of(spool.folder, 2), MOST)
    gone.add(entries(1, 2))
    living.add(entries(3))
    gone.close()
    drain.start()
    await until(lambda: redis.xlen(GOOD))
    await until(lambda: _free(spool.folder, 1))
    assert await stored(redis) == [1, 2]
    assert living.count() == 1
    living.close()


async def _free(folder, number):
    spool_file = lock_file(file_of(folder, number), MOST)
    if spool_file is not None:
        count = spool_file.count()
        spool_file.close()
        return count == 0
    return False


async def test_a_topic_that_takes_nothing_does_not_hold_up_the_others(spool, drain, redis):
    """Its events are put aside, kept, and go as soon as a new start finds the topic mended."""
    await redis.set(BLOCKED, "no stream")
    await spool.write(entries(1, topic=BLOCKED) + entries(2) + entries(3, topic=BLOCKED) + entries(4), 0)
    drain.start()
    await until(lambda: _count_is(spool, 2))
    assert await stored(redis) == [2, 4]
    assert [one.entry.topic for one in spool.file.oldest(10, "parked")] == [BLOCKED, BLOCKED]
    await drain.close()
    await redis.delete(BLOCKED)
    drain.retry()
    drain.start()
    await until(lambda: _empty(spool))
    assert await stored(redis, BLOCKED) == [1, 3]


async def test_a_full_spool_with_a_topic_that_takes_nothing_drains_all_others(tmp_path, primaries, redis):
    """At its cap a file has no page left to put events aside in, but for those that they leave."""
    await redis.set(BLOCKED, "no stream")
    spool = Spool(tmp_path / "small", 1 << 20)
    await spool.open()
    written = 0
    with contextlib.suppress(WriteFailedError):
        for start in range(0, 10_000, 30):
            numbers = range(start, start + 30)
            await spool.write([one for n in numbers for one in wide(n, GOOD if n % 3 == 1 else BLOCKED)], 0)
            written = start + 30
    drain = Drain(spool, primaries, LOGGER)
    drain.start()
    await until(lambda: _stored_is(redis, GOOD, range(1, written, 3)))
    await redis.delete(BLOCKED)
    drain.retry()
    await until(lambda: _empty(spool))
    assert sorted(await stored(redis, BLOCKED)) == [number for number in range(written) if number % 3 != 1]
    await drain.close()
    await spool.close()


def wide(number, topic=GOOD):
    """Return an event that takes the room of a real one."""
    return [Entry(topic, number.to_bytes(16, "big"), b"%d" % number + b" " * 400)]


async def test_what_can_be_neither_put_aside_nor_removed_is_read_past_and_not_forgotten(spool, drain, redis):
    """Nothing can be written to the file. Later it can, and each event is there once."""
    await redis.set(BLOCKED, "no stream")
    await spool.write([one for number in range(0, 3 * BATCH, 2) for one in wide(number, BLOCKED) + wide(number + 1)], 0)
    with contextlib.closing(sqlite3.connect(spool.file.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        drain.start()
        await until(lambda: _stored_is(redis, GOOD, range(1, 3 * BATCH, 2)), seconds=20)
    await redis.delete(BLOCKED)
    drain.retry()
    await until(lambda: _empty(spool))
    assert sorted(await stored(redis, BLOCKED)) == list(range(0, 3 * BATCH, 2))
    assert sorted(await stored(redis)) == list(range(1, 3 * BATCH, 2))
    await spool.write(entries(5 * BATCH), 0)
    drain.retry()
    await until(lambda: _empty(spool))


async def _stored_is(redis, topic, numbers):
    return sorted(await stored(redis, topic)) == list(numbers)


async def _count_is(spool, count):
    return spool.file.count() == count


async def test_a_redis_that_is_away_leaves_everything_on_disk(spool, drain, primaries, redis):
    """Once it is back, the drain goes on by itself."""
    await redis.config_set("min-replicas-to-write", 1)
    await spool.write(entries(1, 2), 0)
    drain.start()
    try:
        await until(lambda: _tripped(primaries))
        assert spool.file.count() == 2
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    await until(lambda: _empty(spool))
    assert await stored(redis) == [1, 2]


async def _tripped(primaries):
    return not primaries.takes_writes


async def test_a_spool_file_that_cannot_be_read_does_not_hold_up_the_others(spool, drain, redis):
    """One of three orphans is damaged: the other two are drained."""
    for number in (1, 2, 3):
        orphan = lock_file(file_of(spool.folder, number), MOST)
        orphan.add(entries(number))
        orphan.close()
    (spool.folder / "002.sqlite").write_bytes(b"no database at all" * 500)
    drain.start()
    await until(lambda: _both(redis))


async def _both(redis):
    return sorted(await stored(redis)) == [1, 3]


async def test_a_foreign_file_in_the_folder_is_left_alone(spool, drain, redis):
    """A copy that an operator made, for example."""
    (spool.folder / "000-copy.sqlite").write_bytes(b"")
    await spool.write(entries(1), 0)
    drain.start()
    await until(lambda: _empty(spool))
    await spool.write(entries(2), 0)
    drain.retry()
    await until(lambda: _empty(spool))
    assert await stored(redis) == [1, 2]
    assert (spool.folder / "000-copy.sqlite").read_bytes() == b""


async def test_a_parked_event_of_a_process_that_is_gone_is_tried_again_too(spool, drain, redis):
    """Its topic may take it by now."""
    orphan = lock_file(file_of(spool.folder, 1), MOST)
    orphan.add(entries(1))
    orphan.park(orphan.oldest(10))
    orphan.close()
    drain.start()
    await until(lambda: redis.xlen(GOOD))


async def test_a_publish_that_fails_trips_the_breaker_and_removes_nothing(spool):
    """As if the drain had never been there."""
    primaries = topology("redis://127.0.0.1:1/0", Settings(), lambda: None, LOGGER)
    await spool.write(entries(1), 0)
    with pytest.raises(WriteFailedError):
        await primaries.drain(entries(1))
    assert not primaries.takes_writes
    assert spool.file.count() == 1
    await primaries.close()
