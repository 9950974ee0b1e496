"""A file that is damaged or was hit by an I/O error: what reads is published once, and no other file has to wait."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
import structlog
from spool.conftest import until
from spool.damage import GOOD, MOST, entries, filled, inner, leaves, number_of, on_pages, overwrite

from receiver.errors import WriteFailedError
from receiver.spool.budget import PAGE
from receiver.spool.directory import file_of, files_set_aside, mark_suspect, parts, suspect_files
from receiver.spool.file import lock_file
from receiver.spool.recovery import SuspectFile
from receiver.spool.spool import Spool

MANY = range(1, 3000)


@pytest.fixture
def folder(tmp_path):
    """Return the folder of the spool."""
    return tmp_path / "spool"


@pytest.fixture
async def spool(folder):
    """Return an open spool with the file 000."""
    made = Spool(folder, MOST)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def said():
    """Return what is logged from here on, as errors, about files set aside."""
    with structlog.testing.capture_logs() as logs:
        yield lambda: [log for log in logs if log["event"] == "spool.set_aside" and log["log_level"] == "error"]


async def published(redis):
    """Return the numbers in the stream."""
    return sorted([number_of(fields[b"data"]) for _, fields in await redis.xrange(GOOD)])


async def settled(spool, files=1):
    """Await that so many files are set aside, and everything that was copied is published."""
    await until(lambda: len(files_set_aside(spool.folder)) == files)
    await until(lambda: spool.run(lambda: spool.file.count() == 0))


async def test_all_but_the_damaged_page_of_an_orphan_is_published(spool, running, redis, folder, said):
    """And it is said once: how many were copied, that these are not all, which file, and what to do."""
    orphan = filled(folder, 1, MANY)
    pages = leaves(orphan)[100:102]
    lost = on_pages(orphan, *pages)
    overwrite(orphan, *pages)
    async with running(spool):
        await settled(spool)
        await until(said)
        assert await published(redis) == [number for number in MANY if number not in lost]
        await spool.heal()
    (log,) = said()
    (aside,) = files_set_aside(folder)
    assert aside.name.startswith("001.damaged-2")
    assert (log["file"], log["complete"]) == (aside.name, False)
    assert log["copied_events"] > len(MANY) - 1000 - len(lost)
    assert "sqlite3 FILE .recover" in log["advice"]
    assert not file_of(folder, 1).exists()
    assert sorted(path.name for path in folder.glob("*.lock")) == ["000.lock", "001.lock"]


async def test_behind_a_damaged_page_above_the_events_all_is_published(spool, running, redis, folder):
    orphan = filled(folder, 1, range(1, 20_000))
    overwrite(orphan, inner(orphan)[0])
    async with running(spool):
        await settled(spool)
    found = await published(redis)
    assert found[0] > 1000
    assert found == list(range(found[0], 20_000))


async def test_of_a_file_that_was_cut_the_rest_is_published(spool, running, redis, folder):
    """Half of it is gone."""
    orphan = filled(folder, 1, MANY)
    size = orphan.stat().st_size // PAGE // 2
    kept = {number for page in leaves(orphan) if page < size for number in on_pages(orphan, page)}
    os.truncate(orphan, size * PAGE + 7)
    async with running(spool):
        await settled(spool)
    assert await published(redis) == sorted(kept)


@pytest.mark.parametrize("garbage", [bytes(16), b"garbage " * 2, bytes(PAGE), b"garbage " * (PAGE // 8)])
async def test_a_file_whose_beginning_is_destroyed_is_set_aside_as_it_is(spool, running, folder, said, garbage):
    """SELECT reads nothing of it; `.recover` may."""
    orphan = filled(folder, 1, MANY)
    with orphan.open("r+b") as file:
        file.write(garbage)
    before = orphan.read_bytes()
    async with running(spool):
        await settled(spool)
        await until(said)
    (aside,) = files_set_aside(folder)
    assert aside.read_bytes() == before
    assert (said()[0]["copied_events"], said()[0]["complete"]) == (0, False)


async def test_a_file_that_was_emptied_keeps_its_log(spool, running, folder, said):
    """SQLite discards a log beside an empty file. Its process was killed: nothing was copied out of the log."""
    living = lock_file(file_of(folder, 1), MOST)
    living.add(entries(1, 2, 3))
    killed = file_of(folder, 2)
    for part, copy in list(zip(parts(living.path), parts(killed), strict=True))[:2]:
        shutil.copy(part, copy)
    os.truncate(killed, 0)
    log = parts(killed)[1].read_bytes()
    async with running(spool):
        await settled(spool)
        await until(said)
    (aside,) = files_set_aside(folder)
    assert parts(aside)[1].read_bytes() == log
    assert not said()[0]["complete"]
    living.close()


async def test_damaged_orphans_do_not_keep_the_next_from_draining(spool, running, redis, folder):
    """Of four two are damaged, in one way or another."""
    for number in (1, 2, 3, 4):
        filled(folder, number, range(number * 1000, number * 1000 + 100))
    overwrite(file_of(folder, 1), leaves(file_of(folder, 1))[3])
    overwrite(file_of(folder, 3), 1)
    async with running(spool):
        await settled(spool, 2)
        await until(lambda: _holds(redis, [*range(2000, 2100), *range(4000, 4100)]))


async def _holds(redis, numbers):
    return set(numbers) <= set(await published(redis))


@pytest.mark.parametrize("name", ["001.sqlite", "001.lock"])
async def test_what_cannot_be_opened_keeps_nothing_from_draining_and_is_not_set_aside(
    spool, running, redis, folder, name
):
    """A folder of that name, or one without the right to it: no damage, and another day it may be opened."""
    (folder / "001.sqlite").touch()
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    filled(folder, 2, range(1, 10))
    async with running(spool):
        await until(lambda: _holds(redis, range(1, 10)))
    assert [*suspect_files(folder), *files_set_aside(folder)] == []


async def test_our_own_file_that_is_damaged_is_left_and_recovered(spool, running, redis, folder):
    """The drain finds out. From then on events go to a fresh file; nothing goes to the damaged one."""
    filled(folder, 1, range(6000, 6100))
    await spool.write(entries(*MANY), 0)
    page = _checkpointed(spool)[150]
    lost = on_pages(spool.file.path, page)
    overwrite(spool.file.path, page)
    async with running(spool):
        await until(lambda: spool.file.path.name != "000.sqlite")
        await spool.write(entries(5000), 0)
        await settled(spool)
        await until(lambda: _holds(redis, [*range(6000, 6100)]))
    assert await published(redis) == sorted({*MANY, 5000, *range(6000, 6100)} - lost)


def _checkpointed(spool):
    """Return the pages that hold events, once the log has been copied into the file."""
    with closing(sqlite3.connect(spool.file.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return leaves(spool.file.path)


async def test_a_write_finds_out_too(spool, folder):
    """Its reply is a refusal, and it leads to a fresh file, without Redis."""
    await spool.write(entries(*MANY), 0)
    overwrite(spool.file.path, _checkpointed(spool)[-1])
    with pytest.raises(WriteFailedError) as caught:
        await spool.write(entries(4000), 0)
    assert caught.value.reason == "SQLITE_CORRUPT"
    assert not spool.writable
    await spool.heal()
    await spool.write(entries(4000), 0)
    assert spool.file.path.name == "001.sqlite"
    assert len(files_set_aside(folder)) == 1
    assert spool.file.count() > len(MANY) - 20


async def test_a_process_starts_on_a_file_that_is_damaged_at_its_end(folder, running, redis):
    """Where its events are counted."""
    path = filled(folder, 0, MANY)
    lost = on_pages(path, leaves(path)[-1])
    overwrite(path, leaves(path)[-1])
    spool = Spool(folder, MOST)
    await spool.open()
    async with running(spool):
        await settled(spool)
    await spool.close()
    assert await published(redis) == sorted(set(MANY) - lost)


async def test_events_put_aside_are_recovered_as_well(spool, running, redis, folder):
    orphan = lock_file(file_of(folder, 1), MOST)
    orphan.add(entries(*MANY))
    orphan.park(orphan.oldest(500))
    orphan.close()
    page = leaves(orphan.path)[200]
    lost = on_pages(orphan.path, page)
    overwrite(orphan.path, page)
    async with running(spool):
        await settled(spool)
    assert set(range(1, 501)) <= set(await published(redis)) | lost


async def test_a_row_that_is_no_event_is_not_published(spool, running, redis, folder, said):
    """Garbage that SQLite reads like anything else: whoever consumes would stumble over it."""
    orphan = filled(folder, 1, range(1, 10))
    at = orphan.read_bytes().index(b'"n5.')
    with orphan.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 100)
    async with running(spool):
        await settled(spool)
        await until(said)
    assert await published(redis) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert not said()[0]["complete"]


async def test_a_recovery_that_was_interrupted_begins_anew(spool, running, redis, folder):
    """Until all is copied, the file keeps its name, and the next process finds it."""
    orphan = filled(folder, 1, MANY)
    page = leaves(orphan)[150]
    lost = on_pages(orphan, page)
    overwrite(orphan, page)
    suspect = mark_suspect(orphan)
    interrupted = SuspectFile.open(suspect, MOST)
    assert interrupted.step(spool.add)
    assert SuspectFile.open(suspect, MOST) is None  # one at a time
    interrupted.close()
    async with running(spool):
        await settled(spool)
    assert await published(redis) == sorted(set(MANY) - lost)


async def test_a_suspect_file_is_set_aside_with_its_log_and_not_written_to(spool, folder):
    """A process that was killed has left events in the log alone."""
    living = lock_file(file_of(folder, 1), MOST)
    living.add(entries(1, 2, 3))
    before = [part.read_bytes() for part in parts(living.path)[:2]]
    suspect = living.set_suspect()
    assert suspect_files(folder) == [suspect]
    await spool.heal()
    (aside,) = files_set_aside(folder)
    assert [part.read_bytes() for part in parts(aside)[:2]] == before
    assert [number_of(one.entry.data) for one in spool.file.oldest(10)] == [1, 2, 3]


async def test_a_suspect_file_without_events_is_removed(spool, folder):
    lock_file(file_of(folder, 1), MOST).set_suspect()
    await spool.heal()
    assert sorted(path.suffix for path in folder.glob("*.suspect-*")) == []
    assert files_set_aside(folder) == []


async def test_files_of_one_number_that_are_set_aside_at_once_have_names_of_their_own(spool, folder):
    """None takes the place of another."""
    for number in range(3):
        mark_suspect(filled(folder, 1, range(number, number + 1)))
    await spool.heal()
    assert len(files_set_aside(folder)) == 3


async def test_more_than_there_is_room_for_is_recovered(folder, redis, running):
    """Each part that is copied is drained before the next: our own file need not hold them all."""
    count = 5000
    orphan = filled(folder, 1, range(1, count))
    assert orphan.stat().st_size > 1 << 20
    lost = on_pages(orphan, leaves(orphan)[0])
    overwrite(orphan, leaves(orphan)[0])
    spool = Spool(folder, 1 << 20)
    await spool.open()
    async with running(spool):
        await settled(spool)
    await spool.close()
    assert await published(redis) == [number for number in range(1, count) if number not in lost]
