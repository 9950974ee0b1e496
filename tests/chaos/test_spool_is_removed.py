"""The spool's folder is removed while in use: events are refused or kept, never acknowledged into nothing."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from chaos.guarantees import assert_guarantees, refused

from receiver.proving.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_is_acknowledged_after_the_folder_was_removed_survives_a_kill(tmp_path: Path) -> None:
    """``rm -rf`` while Redis is away, and kill -9 two seconds later: what was acknowledged before is there as well."""
    async with Stage(tmp_path) as stage:
        await stage.traffic()
        await stage.valkey.kill()
        await asyncio.sleep(0.5)
        shutil.rmtree(stage.service.data_dir / "spool")
        before = stage.ledger.acknowledged
        await asyncio.sleep(2)
        await stage.until(lambda: stage.ledger.acknowledged > before)
        await _killed_and_settled(stage)


async def test_with_no_room_for_a_new_folder_all_is_refused(tmp_path: Path) -> None:
    """A file is in the folder's place: 503 until it is gone, and then all that was acknowledged is kept after all."""
    async with Stage(tmp_path) as stage:
        await stage.traffic()
        await stage.valkey.kill()
        await asyncio.sleep(0.5)
        folder = stage.service.data_dir / "spool"
        folder.rename(folder.with_name("old"))
        folder.touch()
        await asyncio.sleep(0.5)
        before = stage.ledger.acknowledged
        await asyncio.sleep(1.5)
        assert stage.ledger.acknowledged == before
        assert refused(stage)[503] > 0
        assert await stage.route(stage.service) == "refuse"
        folder.unlink()
        await stage.until(lambda: stage.ledger.acknowledged > before)
        await _killed_and_settled(stage)


async def _killed_and_settled(stage: Stage) -> None:
    await stage.service.kill()
    await asyncio.gather(stage.service.start(), stage.valkey.start())
    await stage.quiet()
    assert await stage.settled()
    await assert_guarantees(stage)
