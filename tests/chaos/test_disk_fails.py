"""When the disk takes nothing and Redis is away, callbacks are refused and never acknowledged on hope."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from chaos.disks import fill, small_disk
from chaos.guarantees import Scene, assert_guarantees, goes_on, refused, refuses, spools
from chaos.tracing import traced
from messages import body, report
from servers import eventually

from receiver.chaos.faults import FAULTS
from receiver.spool.directory import files_set_aside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chaos.guarantees import Survives
    from servers import Receiver


#: Events a second for a service whose every system call strace stops: more would be a test of strace.
_WATCHED = 500


async def test_writes_that_fail_are_refused(survives: Survives) -> None:
    """Every write to a file fails (RLIMIT_FSIZE): 503, and the provider's next attempt succeeds when it has room."""
    async with survives() as harness:
        await FAULTS["disk-refuses"].run(harness, 1.0)
    assert set(refused(harness)) == {503}


async def test_a_file_whose_sync_failed_takes_no_more_events(tmp_path: Path) -> None:
    """One sync fails, Redis is away. A power cut may then cost all of that file: everything is in another one already.

    After a failed sync the kernel takes what it did not write for written, and SQLite's log ends at that hole.
    """
    async with Scene(tmp_path, rate=_WATCHED) as harness:
        spool = harness.service.data_dir / "spool"
        await harness.start_traffic()
        await harness.valkey.kill()
        await harness.until(lambda: harness.spooled() > 0)
        async with traced(harness.service, tmp_path, sync_fails="1"):
            await harness.until(lambda: files_set_aside(spool) != [])
        assert set(refused(harness)) <= {503}
        before = harness.ack_log.acknowledged
        await harness.until(lambda: harness.ack_log.acknowledged > before)
        await harness.service.kill()
        for path in spool.glob("*.damaged-*"):
            path.unlink()
        await asyncio.gather(harness.service.start(), harness.valkey.start())
        await harness.stop_traffic()
        assert await harness.settled()
        await assert_guarantees(harness)


async def test_while_no_sync_succeeds_all_is_refused(survives: Survives, tmp_path: Path) -> None:
    """Redis is away, and each sync fails: 503, until one succeeds. What was refused may be there, once."""
    async with survives(rate=_WATCHED) as harness:
        await harness.valkey.kill()
        await harness.until(lambda: harness.spooled() > 0)
        async with traced(harness.service, tmp_path, sync_fails="1+"):
            await harness.until(lambda: 503 in refused(harness))
            before = harness.ack_log.acknowledged
            await refuses(harness)
            assert harness.ack_log.acknowledged == before
        await harness.until(lambda: harness.ack_log.acknowledged > before)
        await harness.valkey.start()


async def test_a_service_starts_on_a_full_disk_although_it_ended_well(tmp_path: Path) -> None:
    """Nothing is left that SQLite needs beside a file. Redis takes what is on the disk, and all that is new."""
    disk = tmp_path / "disk"
    with small_disk(disk, "4m"):
        async with Scene(tmp_path, data_dir=disk) as harness:
            await harness.start_traffic()
            await harness.valkey.kill()
            await harness.until(lambda: harness.spooled() > 100)
            await harness.service.stop()
            fill(disk)
            await harness.service.start()
            spool = (await harness.ready(harness.service))["spool"]
            assert not spool["writable"]
            assert "takes no events" in spool["reason"]
            assert await harness.route(harness.service) == "refuse"
            await harness.valkey.start()
            await harness.stop_traffic()
            assert await harness.settled()
            await assert_guarantees(harness)
            (disk / "filler").unlink()
            async with asyncio.timeout(10):
                while not (await harness.ready(harness.service))["spool"]["writable"]:
                    await asyncio.sleep(0.05)
    log = harness.service.log.read_text()
    assert (log.count('"spool.not_writable"'), log.count('"spool.writable"')) == (1, 1)


async def test_a_full_disk_refuses_and_drains(tmp_path: Path) -> None:
    """The spool has filled its disk: 503 from then on; when Redis is back it drains although the disk is still full."""
    disk = tmp_path / "disk"
    with small_disk(disk, "3m"):
        async with Scene(tmp_path, rate=4000, batch=20, data_dir=disk) as harness:
            await harness.start_traffic()
            await harness.valkey.kill()
            await refuses(harness, 100)
            fill(disk)
            async with asyncio.timeout(30):
                while await harness.route(harness.service) != "refuse":
                    await asyncio.sleep(0.05)
            await harness.valkey.start()
            await harness.stop_traffic()
            assert await harness.settled()
            await assert_guarantees(harness)


def test_a_full_disk_ends_no_workers(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    """Neither a worker that dies nor a reload: the service goes on, and all is well when there is room again."""
    disk = tmp_path / "disk"
    with small_disk(disk, "3m"):
        service = serve(RECEIVER_WORKERS="2", RECEIVER_DATA_DIR=str(disk / "data"), TMPDIR=str(disk))
        fill(disk)
        before = service.children
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: before[0] not in service.children, "it is gone")
        service.signal(signal.SIGHUP)
        eventually(lambda: not set(before) & set(service.children), "the old workers are gone", 20)
        (disk / "filler").unlink()
        eventually(lambda: service.figure('receiver_worker_route{route="redis"') == 2, "the new workers serve", 40)
        assert {service.post(body([report(f"full-{number}")]))[0] for number in range(20)} == {200}
        assert "SIGBUS" not in service.output
        assert service.stop() == 0


def test_a_disk_that_fills_up_while_redis_takes_all_is_told(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    """Before events need it. Callbacks are acknowledged all the while."""
    disk = tmp_path / "disk"
    with small_disk(disk, "3m"):
        service = serve(RECEIVER_DATA_DIR=str(disk))
        assert service.figure("receiver_spool_writable") == 1
        fill(disk)
        eventually(lambda: service.figure("receiver_spool_writable") == 0, "the disk takes nothing", 30)
        eventually(lambda: service.figure("receiver_spool_free_bytes") < 1 << 16, "the disk is full", 30)
        assert service.post(body([report()]))[0] == 200
        assert service.figure('receiver_route{route="redis"}') == 1
        (disk / "filler").unlink()
        eventually(lambda: service.figure("receiver_spool_writable") == 1, "there is room again", 30)
        assert service.stop() == 0


async def test_the_cap_of_the_spool_is_a_full_disk(survives: Survives) -> None:
    """RECEIVER_SPOOL_MAX_BYTES is reached: 503, and what was acknowledged drains."""
    async with survives(rate=4000, batch=20, settings={"RECEIVER_SPOOL_MAX_BYTES": "1MiB"}) as harness:
        await harness.valkey.kill()
        await refuses(harness, 100)
        await harness.valkey.start()


async def test_a_disk_that_stalls_is_not_waited_for(survives: Survives, tmp_path: Path) -> None:
    """Each sync takes a second, Redis is away: refused in time, and what reached the disk after all is there once."""
    async with survives(rate=_WATCHED) as harness:
        await harness.valkey.kill()
        await spools(harness, 1)
        async with traced(harness.service, tmp_path, sync_takes=1.0):
            await refuses(harness)
        await goes_on(harness)
        await harness.valkey.start()


async def test_a_slow_disk_is_waited_for(survives: Survives, tmp_path: Path) -> None:
    """Each sync takes 0.1 s: one serves all who came during the last, so acks go on, and nobody is refused."""
    async with survives(rate=_WATCHED, max_in_flight=10) as harness:
        await harness.valkey.kill()
        await spools(harness, 1)
        async with traced(harness.service, tmp_path, sync_takes=0.1):
            await goes_on(harness, 2 * _WATCHED)
        await harness.valkey.start()
    assert refused(harness) == {}
