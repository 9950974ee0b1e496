"""A spool file that is taken away while it is in use: refused until there is another, and nothing of it is lost."""

from __future__ import annotations

import shutil

import pytest

from receiver.errors import WriteFailedError
from receiver.events import Entry
from receiver.spool.directory import file_of
from receiver.spool.file import lock_file
from receiver.spool.spool import Spool

MOST = 1 << 30


def entries(*numbers):
    """Return entries by number."""
    return [Entry("t", number.to_bytes(16, "big"), b"%d" % number) for number in numbers]


def kept(folder):
    """Return the numbers that are on the disk for whoever comes next, in all files of a folder."""
    found = []
    for path in sorted(folder.glob("[0-9][0-9][0-9].sqlite")):
        taken = lock_file(path, MOST)
        found += [int(one.entry.data) for one in taken.oldest(100_000)]
        taken.close()
    return sorted(set(found))  # what is there twice is published once


@pytest.fixture
async def spool(tmp_path):
    """Return an open spool that holds five events."""
    opened = Spool(tmp_path / "data" / "spool", MOST)
    await opened.open()
    await opened.write(entries(1, 2, 3), 0)
    opened.file.park(opened.file.oldest(1))
    await opened.write(entries(4, 5), 0)
    yield opened
    await opened.close()


def _removed(folder):
    shutil.rmtree(folder)


def _data_removed(folder):
    shutil.rmtree(folder.parent)


def _renamed(folder):
    folder.rename(folder.with_name("old"))
    folder.mkdir()


def _file_removed(folder):
    (folder / "000.sqlite").unlink()


def _log_removed(folder):
    (folder / "000.sqlite-wal").unlink()


def _index_removed(folder):
    (folder / "000.sqlite-shm").unlink()


def _lock_removed(folder):
    (folder / "000.lock").unlink()


TAKEN_AWAY = [_removed, _data_removed, _renamed, _file_removed, _log_removed, _index_removed, _lock_removed]


@pytest.mark.parametrize("take_away", TAKEN_AWAY)
async def test_what_is_no_longer_in_its_folder_takes_no_event(spool, take_away):
    """It would be acknowledged, and gone with the process."""
    take_away(spool.folder)
    with pytest.raises(WriteFailedError, match="removed or replaced"):
        await spool.write(entries(6), 0)
    assert not spool.writable


@pytest.mark.parametrize("take_away", TAKEN_AWAY)
async def test_it_is_noticed_without_a_write(spool, take_away):
    """While Redis takes everything, or nothing comes."""
    before = spool.file
    await spool.heal()
    assert spool.file is before
    take_away(spool.folder)
    await spool.heal()
    assert spool.file is not before


@pytest.mark.parametrize("take_away", TAKEN_AWAY)
async def test_all_of_it_is_copied_into_a_file_that_others_find(spool, take_away):
    """Those put aside, too; then events are taken again, and what there is survives the process."""
    take_away(spool.folder)
    await spool.heal()
    assert spool.writable
    await spool.write(entries(6), 0)
    assert spool.events >= 6
    await spool.close()
    assert kept(spool.folder) == [1, 2, 3, 4, 5, 6]


async def test_what_is_drained_is_not_copied(spool):
    """Only what is still waiting is."""
    spool.file.remove(spool.file.oldest(2))
    _removed(spool.folder)
    await spool.heal()
    assert spool.writable
    assert [int(one.entry.data) for one in spool.file.oldest(10)] == [1, 4, 5]


async def test_a_large_file_is_copied_in_steps(spool):
    """In their order, none left out."""
    await spool.write(entries(*range(6, 5000)), 0)
    _removed(spool.folder)
    await spool.heal()
    assert spool.writable
    assert [int(one.entry.data) for one in spool.file.oldest(10_000)] == list(range(1, 5000))


async def test_taken_away_twice_before_it_is_copied(spool):
    """What the second file had got is copied on."""
    _removed(spool.folder)
    spool.folder.write_text("in the way")
    await spool.heal()
    assert not spool.writable
    spool.folder.unlink()
    await spool.heal()
    assert spool.writable
    _removed(spool.folder)
    await spool.heal()
    assert spool.writable
    await spool.close()
    assert kept(spool.folder) == [1, 2, 3, 4, 5]


async def test_two_processes_of_a_folder_that_was_removed_have_two_files_again(spool):
    """Each with a lock of its own in the new folder."""
    second = Spool(spool.folder, MOST)
    await second.open()
    await second.write(entries(7), 0)
    _removed(spool.folder)
    await second.heal()
    assert second.writable
    await spool.heal()
    assert spool.writable
    assert {spool.file.path.name, second.file.path.name} == {"000.sqlite", "001.sqlite"}
    assert [lock_file(file_of(spool.folder, number), MOST) for number in (0, 1)] == [None, None]
    await second.close()
    await spool.close()
    assert kept(spool.folder) == [1, 2, 3, 4, 5, 7]


async def test_a_file_of_another_process_in_its_place_is_left_alone(spool):
    """Giving back the disk space of an emptied file must not remove one that is not ours."""
    _renamed(spool.folder)
    other = lock_file(file_of(spool.folder, 0), MOST)
    other.add(entries(8))
    await spool.heal()
    assert spool.writable
    assert spool.file.path.name == "001.sqlite"
    other.check()
    other.close()
    await spool.close()
    assert kept(spool.folder) == [1, 2, 3, 4, 5, 8]


async def test_a_service_that_ends_before_it_has_noticed_copies_at_its_end(spool):
    """Nobody could later."""
    _removed(spool.folder)
    await spool.close()
    assert kept(spool.folder) == [1, 2, 3, 4, 5]
