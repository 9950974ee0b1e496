"""A damaged spool file: what can be read of it is published once, the file is set aside, and no other has to wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
import structlog
from delivery.damage import GOOD, MOST, entries, filled, inner, leaves, number_of, on_pages, overwrite

from receiver.delivery.breaker import Breaker
from receiver.delivery.drain import Drain
from receiver.delivery.publisher import Publisher, connect
from receiver.delivery.salvage import Salvage
from receiver.spool.spool import Spool
from receiver.spool.file import PAGE, lock_file
from receiver.spool.directory import file_of, parts
from receiver.spool.status import files_set_aside
from receiver.errors import NotTakenError

MANY = range(1, 3000)


@pytest.fixture
def folder(tmp_path):
    """Return the folder of the spool."""
    return tmp_path / "spool"


@pytest.fixture
async def spool(folder):
    """Return a spool that is not open yet."""
    made = Spool(folder, MOST)
    yield made
    await made.close()


@pytest.fixture
async def drain(spool, redis_url):
    """Return a drain that is not started."""
    client = connect(redis_url)
    publisher = Publisher(client, 2, 86400)
    logger = structlog.stdlib.get_logger()
    breaker = Breaker(publisher.probe, lambda: None, logger)
    made = Drain(spool, [publisher], breaker, logger)
    yield made
    await made.close()
    await breaker.close()
    await publisher.close()
    await client.aclose()


@pytest.fixture
def said():
    """Return what is logged from here on, as errors, about files set aside."""
    with structlog.testing.capture_logs() as logs:
        yield lambda: [log for log in logs if log["event"] == "spool.set_aside" and log["log_level"] == "error"]


async def published(redis):
    """Return the numbers in the stream."""
    return sorted([number_of(fields[b"data"]) for _, fields in await redis.xrange(GOOD)])


async def until(holds, seconds=10):
    """Await what the drain brings about."""
    async with asyncio.timeout(seconds):
        while not (await found if asyncio.iscoroutine(found := holds()) else found):
            await asyncio.sleep(0.02)


async def settled(spool, files=1):
    """Await that so many files are set aside, and all that was copied is published."""
    await until(lambda: len(files_set_aside(spool.folder)) == files)
    await until(lambda: spool.run(lambda: spool.file.count() == 0))


async def test_all_but_the_damaged_page_of_an_orphan_is_published(spool, drain, redis, folder, said):
    """And it is said once: how many, how many not, which file, and what to do."""
    await spool.open()
    orphan = filled(folder, 1, MANY)
    pages = leaves(orphan)[100:102]
    lost = on_pages(orphan, *pages)
    overwrite(orphan, *pages)
    drain.start()
    await settled(spool)
    assert await published(redis) == [number for number in MANY if number not in lost]
    await asyncio.sleep(1.2)
    (log,) = said()
    (aside,) = files_set_aside(folder)
    assert aside.name.startswith("001.damaged-2")
    assert (log["file"], log["copied_events"] >= 3000 - 1000 - len(lost), log["unreadable_events"]) == (
        aside.name,
        True,
        len(lost),
    )
    assert "receiver spool export" in log["advice"]
    assert not file_of(folder, 1).exists()


async def test_behind_a_damaged_page_above_the_events_all_is_published(spool, drain, redis, folder, said):
    await spool.open()
    orphan = filled(folder, 1, range(1, 20_000))
    overwrite(orphan, inner(orphan)[0])
    drain.start()
    await settled(spool)
    found = await published(redis)
    assert found[0] > 1000
    assert found == list(range(found[0], 20_000))


async def test_of_a_file_that_was_cut_the_rest_is_published(spool, drain, redis, folder):
    """Half of it is gone."""
    await spool.open()
    orphan = filled(folder, 1, MANY)
    size = orphan.stat().st_size // PAGE // 2
    kept = {number for page in leaves(orphan) if page < size for number in on_pages(orphan, page)}
    os.truncate(orphan, size * PAGE + 7)
    drain.start()
    await settled(spool)
    assert await published(redis) == sorted(kept)


@pytest.mark.parametrize("garbage", [bytes(16), b"garbage " * 2, bytes(PAGE), b"garbage " * (PAGE // 8)])
async def test_a_file_whose_beginning_is_destroyed_is_published_whole(spool, drain, redis, folder, garbage):
    """All spool files begin alike, so there is nothing in it that is not known."""
    await spool.open()
    with filled(folder, 1, MANY).open("r+b") as file:
        file.write(garbage)
    drain.start()
    await settled(spool)
    assert await published(redis) == [*MANY]


async def test_what_stands_in_the_log_alone_is_published_though_the_file_was_emptied(spool, drain, redis, folder):
    """SQLite discards a log beside an empty file. Its process was killed: nothing was copied out of the log."""
    await spool.open()
    living = lock_file(file_of(folder, 1), MOST)
    living.add(entries(1, 2, 3))
    killed = file_of(folder, 2)
    for part, copy in list(zip(parts(living.path), parts(killed), strict=True))[:2]:
        shutil.copy(part, copy)
    os.truncate(killed, 0)
    drain.start()
    await settled(spool)
    assert await published(redis) == [1, 2, 3]
    living.close()


async def test_damaged_orphans_do_not_keep_the_next_from_draining(spool, drain, redis, folder):
    """Of four two are damaged, in one way or another."""
    await spool.open()
    for number in (1, 2, 3, 4):
        filled(folder, number, range(number * 1000, number * 1000 + 100))
    overwrite(file_of(folder, 1), leaves(file_of(folder, 1))[3])
    overwrite(file_of(folder, 3), 1)
    drain.start()
    await settled(spool, 2)
    await until(lambda: _holds(redis, [*range(2000, 2100), *range(4000, 4100)]))


@pytest.mark.parametrize("name", ["001.sqlite", "001.lock"])
async def test_what_cannot_be_opened_keeps_nothing_from_draining_and_is_not_set_aside(
    spool, drain, redis, folder, name
):
    """A folder of that name, or one without the right to it: no damage, and another day it may be opened."""
    await spool.open()
    (folder / "001.sqlite").touch()
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    filled(folder, 2, range(1, 10))
    drain.start()
    await until(lambda: _holds(redis, range(1, 10)))
    assert files_set_aside(folder) == []


async def test_our_own_damaged_file_does_not_keep_orphans_from_draining(spool, drain, redis, folder):
    """Nor what came after, into a fresh one, which is drained like any other."""
    filled(folder, 0, MANY)
    filled(folder, 1, range(5000, 5100))
    overwrite(file_of(folder, 0), leaves(file_of(folder, 0))[0])
    await spool.open()
    assert spool.file.path.name == "000.sqlite"
    drain.start()
    await until(lambda: _holds(redis, range(5000, 5100)))


async def _holds(redis, numbers):
    return set(numbers) <= set(await published(redis))


async def test_our_own_file_that_is_damaged_is_left_and_salvaged(spool, drain, redis, folder):
    """Found out by the drain. What is taken then goes to a fresh file; nothing goes to the damaged one."""
    await spool.open()
    await spool.write(entries(*MANY), 0)
    with closing(sqlite3.connect(spool.file.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = leaves(spool.file.path)[150]
    lost = on_pages(spool.file.path, page)
    overwrite(spool.file.path, page)
    drain.start()
    await until(lambda: _unsound(spool))
    with pytest.raises(NotTakenError):
        await spool.write(entries(4000), 0)
    assert await spool.probe()
    assert spool.file.path.name == "001.sqlite"
    await spool.write(entries(5000), 0)
    await settled(spool)
    assert await published(redis) == sorted({*MANY, 5000} - lost)


async def _unsound(spool):
    return not await spool.check()


async def test_a_write_finds_out_too(spool, folder):
    """Its reply is a refusal, and it leads to a fresh file, without Redis."""
    await spool.open()
    await spool.write(entries(*MANY), 0)
    with closing(sqlite3.connect(spool.file.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(spool.file.path, leaves(spool.file.path)[-1])
    with pytest.raises(NotTakenError) as caught:
        await spool.write(entries(4000), 0)
    assert caught.value.reason == "SQLITE_CORRUPT"
    assert not await spool.check()
    assert await spool.probe()
    await spool.write(entries(4000), 0)
    assert (spool.file.path.name, spool.file.count()) == ("001.sqlite", 1)
    assert file_of(folder, 0).exists()  # to be salvaged


async def test_a_process_starts_on_a_file_that_is_damaged_at_its_end(spool, drain, redis, folder):
    """Where its events are counted."""
    path = filled(folder, 0, MANY)
    lost = on_pages(path, leaves(path)[-1])
    overwrite(path, leaves(path)[-1])
    await spool.open()
    assert not await spool.check()
    assert await spool.probe()
    drain.start()
    await settled(spool)
    assert await published(redis) == sorted(set(MANY) - lost)


async def test_events_put_aside_are_salvaged_as_well(spool, drain, redis, folder):
    await spool.open()
    orphan = lock_file(file_of(folder, 1), MOST)
    orphan.add(entries(*MANY))
    orphan.park(orphan.oldest(500))
    orphan.close()
    page = leaves(orphan.path)[200]
    lost = on_pages(orphan.path, page)
    overwrite(orphan.path, page)
    drain.start()
    await settled(spool)
    assert set(range(1, 501)) <= set(await published(redis)) | lost


async def test_a_row_that_is_no_event_is_not_published(spool, drain, redis, folder, said):
    """Garbage that SQLite reads like anything else: whoever consumes would stumble over it."""
    await spool.open()
    orphan = filled(folder, 1, range(1, 10))
    raw = orphan.read_bytes()
    at = raw.index(b'"n5.')
    with orphan.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 100)
    drain.start()
    await settled(spool)
    assert await published(redis) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert said()[0]["unreadable_events"] == 1


async def test_a_salvage_that_was_interrupted_begins_anew(spool, drain, redis, folder):
    """Until all is copied, the file keeps its number, and the next one finds it damaged."""
    await spool.open()
    orphan = filled(folder, 1, MANY)
    page = leaves(orphan)[150]
    lost = on_pages(orphan, page)
    overwrite(orphan, page)
    interrupted = Salvage.begin(orphan, spool.add)
    interrupted.copying.step()
    assert Salvage.begin(orphan, spool.add) is None  # one at a time
    interrupted.close()
    drain.start()
    await settled(spool)
    assert await published(redis) == sorted(set(MANY) - lost)


def test_a_file_is_set_aside_with_its_log(folder):
    """Somebody who looks at it keeps SQLite from putting the log's events into the file."""
    orphan = filled(folder, 0, range(1, 10))
    with closing(sqlite3.connect(orphan)) as reader:
        other = lock_file(file_of(folder, 0), MOST)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchone()
        other.add(entries(10))
        other.close()
        salvage = Salvage.begin(orphan, [].extend)
        while salvage.copying.step():
            pass
        aside = salvage.set_aside()
        salvage.close()
    assert (aside.exists(), list(folder.glob("000.sqlite*"))) == (True, [])
    with closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT count(*) FROM entries").fetchone() == (10,)


def test_files_of_one_number_that_are_set_aside_at_once_have_names_of_their_own(folder):
    """None takes the place of another."""
    for number in range(3):
        salvage = Salvage.begin(filled(folder, 0, range(number, number + 1)), [].extend)
        salvage.set_aside()
        salvage.close()
    assert len(files_set_aside(folder)) == 3


async def test_more_than_there_is_room_for_is_salvaged(tmp_path, redis, redis_url):
    """Each part that is copied is drained before the next: our own file need not hold them all."""
    folder = tmp_path / "spool"
    orphan = filled(folder, 1, range(1, 8000))
    overwrite(orphan, leaves(orphan)[0])
    spool = Spool(folder, 1 << 20)
    await spool.open()
    client = connect(redis_url)
    publisher = Publisher(client, 2, 86400)
    breaker = Breaker(publisher.probe, lambda: None, structlog.stdlib.get_logger())
    drain = Drain(spool, [publisher], breaker, structlog.stdlib.get_logger())
    drain.start()
    with contextlib.suppress(TimeoutError):
        await settled(spool)
    assert len(await published(redis)) > 7980
    for part in (drain, breaker, publisher, spool):
        await part.close()
    await client.aclose()
