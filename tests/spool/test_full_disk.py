"""A disk that is full, or read-only: no reason not to start, and what is on it drains."""

from __future__ import annotations

import subprocess

import pytest
import structlog
from chaos.disks import fill, small_disk
from redis.exceptions import RedisError
from spool.conftest import until
from spool.damage import GOOD, entries, number_of

from receiver.errors import WriteFailedError
from receiver.spool.directory import file_of
from receiver.spool.file import lock_file
from receiver.spool.spool import Spool
from receiver.spool.status import readable, status

MOST = 1 << 30


@pytest.fixture
def disk(tmp_path):
    """Return a disk of 3 MiB."""
    with small_disk(tmp_path / "disk", "3m"):
        yield tmp_path / "disk"


@pytest.fixture
async def spool(disk):
    """Return a spool that is not open yet."""
    made = Spool(disk / "spool", MOST)
    yield made
    await made.close()


async def test_it_opens_on_a_full_disk_and_takes_events_once_there_is_room(spool, disk):
    """There is not even a folder yet."""
    fill(disk)
    await spool.open()
    await spool.heal()
    with pytest.raises(WriteFailedError, match="full") as caught:
        await spool.write(entries(1), 0)
    assert caught.value.reason == "SQLITE_FULL"
    assert (spool.writable, spool.events) == (False, 0)
    (disk / "filler").unlink()
    await spool.heal()
    assert spool.writable
    await spool.write(entries(1), 0)


def left_behind(folder, number, *numbers):
    """Make a file of a process that ended well: its log and the index of it are gone."""
    folder.mkdir(exist_ok=True)
    orphan = lock_file(file_of(folder, number), MOST)
    orphan.add(entries(*numbers))
    orphan.close()
    return orphan.path


async def test_what_is_on_a_full_disk_drains_and_gives_its_room_back(spool, disk, running, redis):
    """Nothing can be deleted from a file; so it is removed as a whole once Redis has everything."""
    for number in (0, 1):
        left_behind(spool.folder, number, *range(1000 * number, 1000 * number + 1000))
    fill(disk)
    await spool.open()
    assert not spool.writable
    async with running(spool):
        await until(lambda: spool.writable)
    assert await published(redis) == [*range(2000)]
    await spool.write(entries(1), 0)


async def published(redis):
    """Return the numbers in the stream."""
    return sorted([number_of(fields[b"data"]) for _, fields in await redis.xrange(GOOD)])


async def test_events_of_a_topic_that_refuses_them_stay_on_a_full_disk(spool, disk, running, redis):
    """They can be neither put aside nor forgotten."""
    await redis.set(GOOD, "no stream")
    left_behind(spool.folder, 0, *range(100))
    fill(disk)
    await spool.open()
    with structlog.testing.capture_logs() as logs:
        async with running(spool):
            await until(lambda: "spool.topic_blocked" in [log["event"] for log in logs])
            await redis.delete(GOOD)
            await until(lambda: _has(redis, 100))


async def test_status_and_export_read_a_full_disk(spool, disk):
    """Export is the way out where there is no Redis."""
    path = left_behind(spool.folder, 0, 1, 2, 3)
    fill(disk)
    assert (status(path).events, status(path).problem) == (3, None)
    with readable(path) as reader:
        assert [number_of(entry.data) for entry in reader] == [1, 2, 3]


async def test_a_file_that_fills_its_disk_is_sound(spool, disk, running, redis):
    """A full disk is no I/O error of the file: it is kept, drained, and takes events again."""
    await spool.open()
    number = 0
    while spool.writable:
        try:
            await spool.write(entries(*range(number, number + 50)), 0)
        except WriteFailedError:
            break
        number += 50
    assert number > 0
    async with running(spool):
        await until(lambda: spool.writable)
        await until(lambda: _has(redis, number))
    assert [path.name for path in spool.folder.glob("*.sqlite")] == ["000.sqlite"]


async def _has(redis, number):
    try:
        return await published(redis) == [*range(number)]
    except RedisError:
        return False


async def test_it_opens_on_a_read_only_disk(spool, disk):
    """As a disk becomes after an error: most file systems are mounted so."""
    left_behind(spool.folder, 0, 1)
    remount(disk, "ro")
    await spool.open()
    assert spool.problem.reason == "EROFS"
    remount(disk, "rw")
    await spool.heal()
    assert spool.writable
    assert spool.file.count() == 1


def remount(disk, mode):
    """Mount a disk read-only or writable."""
    subprocess.run(["/bin/mount", "-o", f"remount,{mode}", str(disk)], check=True)
