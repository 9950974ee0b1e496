"""The spool's folder is removed while in use: events are refused or kept, never acknowledged into nothing."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from chaos.guarantees import Scene, assert_guarantees, refuses, spools

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_is_acknowledged_after_the_folder_was_removed_survives_a_kill(tmp_path: Path) -> None:
    """``rm -rf`` while Redis is away, and kill -9 two seconds later: what was acknowledged before is there as well."""
    async with Scene(tmp_path) as harness:
        await harness.start_traffic()
        await harness.valkey.kill()
        await spools(harness)
        shutil.rmtree(harness.service.data_dir / "spool")
        before = harness.ack_log.acknowledged
        await asyncio.sleep(2)
        await harness.until(lambda: harness.ack_log.acknowledged > before)
        await _killed_and_settled(harness)


async def test_with_no_room_for_a_new_folder_all_is_refused(tmp_path: Path) -> None:
    """A file is in the folder's place: 503 until it is gone, and then all that was acknowledged is kept after all."""
    async with Scene(tmp_path) as harness:
        await harness.start_traffic()
        await harness.valkey.kill()
        await spools(harness)
        folder = harness.service.data_dir / "spool"
        folder.rename(folder.with_name("old"))
        folder.touch()
        await refuses(harness, 100)
        before = harness.ack_log.acknowledged
        await refuses(harness, 200)
        assert harness.ack_log.acknowledged == before
        assert await harness.route(harness.service) == "refuse"
        folder.unlink()
        await harness.until(lambda: harness.ack_log.acknowledged > before)
        await _killed_and_settled(harness)


async def _killed_and_settled(harness: Scene) -> None:
    await harness.service.kill()
    await asyncio.gather(harness.service.start(), harness.valkey.start())
    await harness.stop_traffic()
    assert await harness.settled()
    await assert_guarantees(harness)
