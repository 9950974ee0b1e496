"""What lies in the spool's folder, damaged or strange, never keeps acknowledged events from Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chaos.disks import fill, small_disk
from chaos.guarantees import Scene, assert_guarantees, goes_on, refused, spools

from receiver.spool.directory import files_set_aside

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.guarantees import Survives

_TOPIC = "urn:smn:local:default:sms_success"


async def test_a_strange_file_does_not_stop_the_drain(survives: Survives) -> None:
    """Somebody has left a copy in the folder, with a name of his own."""
    async with survives() as harness:
        (harness.service.data_dir / "spool" / "backup.sqlite").touch()
        await asyncio.sleep(1.2)  # the drain looks at the folder every second
        await harness.valkey.kill()
        await goes_on(harness)
        await harness.valkey.start()
        await goes_on(harness)
        (harness.service.data_dir / "spool" / "backup.sqlite").unlink()


async def test_a_damaged_file_stops_neither_the_start_nor_the_drain(survives: Survives) -> None:
    """A file of the spool is no database any more: it is set aside, and what else there is is drained."""
    async with survives() as harness:
        await harness.service.kill()
        spool = harness.service.data_dir / "spool"
        for path in spool.glob("000.*"):
            path.unlink()
        (spool / "000.sqlite").write_bytes(b"no database " * 1000)
        await harness.service.start()
        assert (spool / "001.sqlite").exists()
        await harness.valkey.kill()
        await goes_on(harness)
        await harness.service.kill()
        await asyncio.gather(harness.service.start(), harness.valkey.start())
        await harness.until(lambda: files_set_aside(spool) != [])


async def test_a_service_starts_on_a_full_disk(tmp_path: Path) -> None:
    """The disk is full when the service starts, and events are on it: Redis takes them, and the new ones."""
    disk = tmp_path / "disk"
    with small_disk(disk, "3m"):
        async with Scene(tmp_path, rate=4000, batch=20, data_dir=disk) as harness:
            await harness.start_traffic()
            await harness.valkey.kill()
            await harness.until(lambda: 503 in refused(harness))
            fill(disk)
            await harness.service.kill()
            await harness.valkey.start()
            await harness.service.start()
            before = harness.ack_log.acknowledged
            await harness.until(lambda: harness.ack_log.acknowledged > before)
            await harness.stop_traffic()
            assert await harness.settled()
            await assert_guarantees(harness)


async def test_events_that_a_topic_refused_outlive_their_service(survives: Survives) -> None:
    """A topic's key is of another type: its events are put aside; who starts later publishes them, a dead one's too."""
    async with survives(services=2) as harness:
        with harness.valkey.client() as client:
            await harness.until(lambda: client.exists(_TOPIC))
            client.rename(_TOPIC, "aside")
            client.set(_TOPIC, "no stream")
            await spools(harness, 1000)
            await harness.services[1].kill()
            harness.provider.urls.pop()
            await goes_on(harness)
            client.delete(_TOPIC)
            client.rename("aside", _TOPIC)
        assert harness.spooled() > 0
        await harness.service.stop()
        await harness.service.start()
