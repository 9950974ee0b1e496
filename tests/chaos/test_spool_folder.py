"""What lies in the spool's folder, damaged or strange, never keeps acknowledged events from Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chaos.disks import fill, small_disk
from chaos.guarantees import assert_guarantees, refused

from receiver.proving.stage import Stage
from receiver.spool.directory import files_set_aside

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.guarantees import Survives

_TOPIC = "urn:smn:local:default:sms_success"


async def test_a_strange_file_does_not_stop_the_drain(survives: Survives) -> None:
    """Somebody has left a copy in the folder, with a name of his own."""
    async with survives() as stage:
        (stage.service.data_dir / "spool" / "backup.sqlite").touch()
        await asyncio.sleep(1.2)
        await stage.valkey.kill()
        await asyncio.sleep(0.3)
        await stage.valkey.start()
        await asyncio.sleep(0.3)
        (stage.service.data_dir / "spool" / "backup.sqlite").unlink()


async def test_a_damaged_file_stops_neither_the_start_nor_the_drain(survives: Survives) -> None:
    """A file of the spool is no database any more: it is set aside, and what else there is is drained."""
    async with survives() as stage:
        await stage.service.kill()
        spool = stage.service.data_dir / "spool"
        for path in spool.glob("000.*"):
            path.unlink()
        (spool / "000.sqlite").write_bytes(b"no database " * 1000)
        await stage.service.start()
        assert (spool / "001.sqlite").exists()
        await stage.valkey.kill()
        await asyncio.sleep(0.5)
        await stage.service.kill()
        await asyncio.gather(stage.service.start(), stage.valkey.start())
        await stage.until(lambda: files_set_aside(spool) != [])


async def test_a_service_starts_on_a_full_disk(tmp_path: Path) -> None:
    """The disk is full when the service starts, and events are on it: Redis takes them, and the new ones."""
    disk = tmp_path / "disk"
    with small_disk(disk, "3m"):
        async with Stage(tmp_path, rate=4000, batch=20, data_dir=disk) as stage:
            await stage.traffic()
            await stage.valkey.kill()
            await stage.until(lambda: 503 in refused(stage))
            fill(disk)
            await stage.service.kill()
            await stage.valkey.start()
            await stage.service.start()
            before = stage.ledger.acknowledged
            await stage.until(lambda: stage.ledger.acknowledged > before)
            await stage.quiet()
            assert await stage.settled()
            await assert_guarantees(stage)


async def test_events_that_a_topic_refused_outlive_their_service(survives: Survives) -> None:
    """A topic's key is of another type: its events are put aside; who starts later publishes them, a dead one's too."""
    async with survives(replicas=2) as stage:
        await asyncio.sleep(0.3)
        with stage.valkey.client() as client:
            client.rename(_TOPIC, "aside")
            client.set(_TOPIC, "no stream")
            await asyncio.sleep(1)
            await stage.services[1].kill()
            stage.provider.urls.pop()
            await asyncio.sleep(0.5)
            client.delete(_TOPIC)
            client.rename("aside", _TOPIC)
        assert stage.spooled() > 0
        await stage.service.stop()
        await stage.service.start()
