"""The spool: on the disk when it says so, one owner a file, bounded."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from receiver.spool.spool import Spool
from receiver.spool.file import lock_file
from receiver.spool.directory import file_of
from receiver.errors import NotTakenError, SettingsError
from receiver.events import Entry

MOST = 1 << 30


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
    spool = Spool(tmp_path, 1 << 20)
    await spool.open()
    await spool.write(entries(1), 0)
    with pytest.raises(NotTakenError) as caught:
        await spool.write(entries(*range(2, 5000), size=500), 0)
    assert (caught.value.reason, spool.writable) == ("SQLITE_FULL", False)
    assert numbers(spool.file.oldest(10_000)) == [1]
    batch = 2
    with contextlib.suppress(NotTakenError):
        while True:
            await spool.write(entries(*range(batch, batch + 100), size=500), 0)
            batch += 100
    assert spool.file.count() == batch - 1 > 100
    spool.file.remove(spool.file.oldest(10_000))
    spool.file.shrink()
    assert await spool.probe()
    await spool.write(entries(1), 0)
    assert spool.writable
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
    spool.file.shrink()
    assert spool.file.size() < 1 << 20


async def test_a_damaged_file_is_left_to_a_person_and_another_one_is_taken(tmp_path):
    """It may hold events; so it is neither used nor removed."""
    damaged = tmp_path / "000.sqlite"
    damaged.write_bytes(b"no database at all" * 500)
    spool = Spool(tmp_path, MOST)
    await spool.open()
    await spool.write(entries(1), 0)
    assert spool.file.path.name == "001.sqlite"
    assert damaged.read_bytes().startswith(b"no database")
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
