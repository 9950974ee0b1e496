"""The spool: on the disk when it says so, one owner a file, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3

import pytest
import structlog

from receiver.errors import SettingsError, WriteFailedError
from receiver.events import Entry
from receiver.spool.directory import file_of, files_set_aside
from receiver.spool.file import lock_file
from receiver.spool.spool import Spool

MOST = 1 << 30
#: The least that the setting allows.
CAP = 1 << 20


def entries(*numbers, topic="t", size=10):
    """Return entries by number."""
    return [Entry(topic, number.to_bytes(16, "big"), b"%d" % number + b" " * size) for number in numbers]


def numbers(spooled):
    """Return the numbers of spooled entries."""
    return [int(one.entry.data) for one in spooled]


@pytest.fixture
async def spool(tmp_path):
    """Return an open spool."""
    opened = Spool(tmp_path / "spool", MOST)
    await opened.open()
    yield opened
    await opened.close()


async def test_what_was_written_is_there_in_its_order_until_it_is_removed(spool):
    """Topic, id and data as they were."""
    await spool.write(entries(1, 2), 0)
    await spool.write(entries(3, topic="urn:é"), 0)
    oldest = spool.file.oldest(10)
    assert [(one.entry.topic, one.entry.id, one.entry.data) for one in oldest] == [
        (entry.topic, entry.id, entry.data) for entry in entries(1, 2) + entries(3, topic="urn:é")
    ]
    spool.file.remove(oldest[:2])
    assert numbers(spool.file.oldest(10)) == [3]
    assert spool.file.count() == 1


async def test_what_was_written_is_there_for_the_next_process(tmp_path):
    """In the same file."""
    for _ in range(2):
        spool = Spool(tmp_path, MOST)
        await spool.open()
        await spool.write(entries(1), 0)
        await spool.close()
    spool = Spool(tmp_path, MOST)
    await spool.open()
    assert (numbers(spool.file.oldest(10)), spool.events) == ([1, 1], 2)
    await spool.close()


async def test_a_commit_that_has_returned_is_seen_by_another_connection(spool):
    """It is in the file, not in this process."""
    await spool.write(entries(1), 0)
    other = sqlite3.connect(spool.file.path)
    assert other.execute("SELECT count(*) FROM entries").fetchone() == (1,)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


async def test_two_processes_have_two_files(spool):
    """The lock of a file is its owner's life."""
    second = Spool(spool.folder, MOST)
    await second.open()
    assert second.file.path != spool.file.path
    assert lock_file(file_of(spool.folder, 1), MOST) is None
    await second.close()
    assert lock_file(file_of(spool.folder, 0), MOST) is None
    taken = lock_file(file_of(spool.folder, 1), MOST)
    assert taken.path == second.file.path
    assert lock_file(file_of(spool.folder, 1), MOST) is None
    taken.close()


async def test_parked_entries_are_out_of_the_way_and_not_forgotten(spool):
    """They count as waiting."""
    await spool.write(entries(1, topic="blocked") + entries(2), 0)
    spool.file.park(spool.file.oldest(1))
    assert (numbers(spool.file.oldest(10)), numbers(spool.file.oldest(10, "parked"))) == ([2], [1])
    assert spool.file.count() == 2


async def test_a_full_spool_takes_none_of_a_batch_and_keeps_what_it_has(tmp_path):
    """It says why, and takes entries again when it has been drained."""
    spool = Spool(tmp_path, CAP)
    await spool.open()
    await spool.write(entries(1), 0)
    with pytest.raises(WriteFailedError, match="RECEIVER_SPOOL_MAX_BYTES") as caught:
        await spool.write(entries(*range(2, 5000), size=500), 0)
    assert caught.value.reason == "SQLITE_FULL"
    assert numbers(spool.file.oldest(10_000)) == [1]
    assert await filled_up(spool, 2) > 500
    while found := spool.file.oldest(100):
        spool.file.remove(found)
    await spool.heal()
    await spool.write(entries(1), 0)
    await spool.close()


async def filled_up(spool, first=0):
    """Write until no more is taken; return how many events are in the spool."""
    batch = first
    with contextlib.suppress(WriteFailedError):
        while True:
            await spool.write(entries(*range(batch, batch + 20), size=500), 0)
            batch += 20
    return spool.file.count()


@pytest.mark.parametrize("cap", [CAP, 4 * CAP])
@pytest.mark.parametrize("size", [10, 500, 2100, 9000])
async def test_the_files_of_a_spool_never_exceed_its_cap(tmp_path, cap, size):
    """The sum of all of them, whatever the size of a batch; and most of it is used."""
    spool = Spool(tmp_path, cap)
    await spool.open()
    largest = number = 0
    rows = max(1, cap // 40 // (size + 100))
    while spool.writable:
        with contextlib.suppress(WriteFailedError):
            await spool.write(entries(*range(number, number + rows), size=size), 0)
        number += rows
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert cap / 3 < largest <= cap
    await spool.close()


async def test_a_batch_larger_than_the_log_may_be_is_written_in_parts(tmp_path):
    """In their order; and what is too large for the whole spool says nothing about what comes next."""
    spool = Spool(tmp_path, CAP)
    await spool.open()
    await spool.write(entries(*range(500), size=300), 0)
    assert numbers(spool.file.oldest(100)) == [*range(100)]
    assert spool.file.count() == 500
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= CAP
    with pytest.raises(WriteFailedError):
        await spool.write(entries(*range(5000), size=300), 0)
    assert spool.writable
    await spool.close()


async def test_what_an_ended_process_has_left_is_counted_and_takes_room_from_the_others(tmp_path):
    """Until it is drained: nobody else counts it, and the cap is that of all files together."""
    ended, living = Spool(tmp_path, 2 * CAP, processes=2), Spool(tmp_path, 2 * CAP, processes=2)
    await ended.open()
    await living.open()
    await ended.write(entries(*range(1000), size=500), 0)
    ended.file.park(ended.file.oldest(10))
    await living.measure()
    assert living.unowned == (0, 0), "its process counts it"
    left = ended.file.size()
    await ended.close()
    async with asyncio.timeout(10):
        while living.unowned.events == 0:
            await living.measure()
            await asyncio.sleep(0.01)
    assert (living.events, living.unowned.events) == (0, 1000)
    assert left / 2 < living.unowned.bytes <= left
    before = await filled_up(living)
    assert before > 100
    assert not living.writable
    assert living.file.size() + left // 2 <= 2 * CAP
    living.adopted = lock_file(file_of(tmp_path, 0), MOST, to_drain=True)
    await living.measure()
    assert living.events == living.file.count() + 1000, "it drains the file now"
    living.adopted.discard()
    living.adopted = None
    async with asyncio.timeout(10):
        while living.unowned.bytes:
            await living.measure()
            await asyncio.sleep(0.01)
    while found := living.file.oldest(100):
        living.file.remove(found)
    await living.heal()
    assert await filled_up(living) > before
    await living.close()


async def test_a_log_that_another_program_keeps_from_being_emptied_is_bounded(tmp_path):
    """Somebody has left a transaction open: full, rather than larger than the cap."""
    spool = Spool(tmp_path, CAP)
    await spool.open()
    await spool.write(entries(1), 0)
    with contextlib.closing(sqlite3.connect(spool.file.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchone()
        await filled_up(spool, 2)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= CAP
        assert not spool.writable
    await spool.heal()
    assert spool.writable
    await spool.write(entries(2), 0)
    await spool.close()


async def test_a_spool_at_its_cap_says_so_once_and_again_when_it_takes_events(tmp_path):
    """Each drained event makes a little room: that alone is no reason to begin again."""
    spool = Spool(tmp_path, CAP)
    await spool.open()
    with structlog.testing.capture_logs() as logs:
        await filled_up(spool)
        for _ in range(5):
            spool.file.remove(spool.file.oldest(20))
            await spool.heal()
            await filled_up(spool)
        assert [log["event"] for log in logs] == ["spool.not_writable"]
        assert "RECEIVER_SPOOL_MAX_BYTES" in logs[0]["error"]
        assert not spool.writable
        while not spool.writable:
            spool.file.remove(spool.file.oldest(20))
            await spool.heal()
        assert [log["event"] for log in logs] == ["spool.not_writable", "spool.writable"]
    assert 0 < spool.file.count() < await filled_up(spool)
    await spool.close()


async def test_a_batch_of_large_entries_is_bounded_in_bytes(spool):
    """A back-log of bodies that were no JSON must not take all memory; one that is larger than the bound goes alone."""
    await spool.write(entries(1, size=9 << 20) + entries(2, 3, 4, size=3 << 20), 0)
    first = spool.file.oldest(1000)
    second = spool.file.oldest(1000, after=first[-1].seq)
    assert [len(batch) for batch in (first, second)] == [1, 2]


async def test_an_emptied_spool_gives_its_disk_back(spool):
    """After an outage of hours it may be gigabytes."""
    await spool.write(entries(*range(4000), size=1000), 0)
    assert spool.file.size() > 4 << 20
    spool.file.remove(spool.file.oldest(10_000))
    spool.renew()
    assert spool.file.size() < 1 << 20
    await spool.write(entries(1), 0)
    assert numbers(spool.file.oldest(10)) == [1]


async def test_a_damaged_file_is_neither_used_nor_removed(tmp_path):
    """It may hold events."""
    damaged = tmp_path / "000.sqlite"
    damaged.write_bytes(b"no database at all" * 500)
    spool = Spool(tmp_path, MOST)
    await spool.open()
    await spool.write(entries(1), 0)
    await spool.heal()
    (aside,) = files_set_aside(tmp_path)
    assert aside.read_bytes().startswith(b"no database")
    assert spool.file.path.name == "001.sqlite"
    await spool.close()


async def test_a_folder_that_cannot_be_is_an_error_at_open(tmp_path):
    """So that the service does not start without its safety net."""
    (tmp_path / "file").write_text("no folder")
    spool = Spool(tmp_path / "file", MOST)
    with pytest.raises(SettingsError, match="it is a file; set RECEIVER_DATA_DIR"):
        await spool.open()
    await spool.close()


async def test_closing_what_was_never_opened_is_nothing(tmp_path):
    """A start that failed is cleaned up all the same."""
    await Spool(tmp_path, MOST).close()


class Removing(list):
    """Entries on whose way into a file its folder is removed."""

    def __init__(self, folder, found):
        super().__init__(found)
        self._folder = folder

    def __iter__(self):
        """Yield them, and remove the folder."""
        yield from super().__iter__()
        shutil.rmtree(self._folder, ignore_errors=True)


async def test_a_file_that_is_removed_while_it_is_written_to_acknowledges_nothing(spool):
    """It was there before the commit, which succeeds: the events are in a file that only this process can find."""
    with pytest.raises(WriteFailedError, match="removed or replaced"):
        await spool.write(Removing(spool.folder, entries(1)), 0)
