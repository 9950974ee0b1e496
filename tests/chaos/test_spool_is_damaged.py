"""The spool is damaged: what can be read of it is published once, whatever happens to the process meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from chaos.guarantees import Scene, goes_on, published, spools
from spool.damage import leaves, on_pages, overwrite

from receiver.spool.directory import files_set_aside, suspect_files

if TYPE_CHECKING:
    from pathlib import Path

#: What the provider calls an event, in its sid or its text.
_NUMBER = rb'"(?:message_id|reply)":"[0-9a-z]*:(\d+)"'


async def test_a_kill_during_the_recovery_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL in the midst, again and again: the next process begins anew, and nothing is doubled."""
    async with Scene(tmp_path, rate=20_000, batch=100) as harness:
        await _spooled(harness, 40_000)
        await harness.stop_traffic()
        await harness.service.kill()
        damaged = _checkpointed(harness)
        page = leaves(damaged, _NUMBER)[0]
        lost = on_pages(damaged, page, of=_NUMBER)
        overwrite(damaged, page)
        await asyncio.gather(harness.service.start(), harness.valkey.start())
        in_the_midst = 0
        await harness.until(lambda: suspect_files(damaged.parent) != [])
        for _ in range(3):
            before = published(harness)
            await harness.service.kill()
            in_the_midst += suspect_files(damaged.parent) != []
            await harness.service.start()
            await harness.until(lambda before=before: published(harness) > before)
        assert in_the_midst, "the recovery was over before each kill"
        await _recovered(harness, lost)


async def test_damage_while_it_is_written_to_costs_the_damaged_pages_alone(tmp_path: Path) -> None:
    """Redis comes back and the drain finds out, under load: what is acknowledged from then on is elsewhere."""
    async with Scene(tmp_path) as harness:
        await _spooled(harness, 6000)
        damaged = _checkpointed(harness)
        sound = leaves(damaged, _NUMBER)
        pages = sound[len(sound) // 2 :: 100][:3]
        lost = on_pages(damaged, *pages, of=_NUMBER)
        overwrite(damaged, *pages)
        await goes_on(harness)
        await harness.valkey.start()
        await harness.until(lambda: files_set_aside(damaged.parent) != [])
        await harness.valkey.kill()
        before = harness.ack_log.acknowledged
        await harness.until(lambda: harness.ack_log.acknowledged > before + 1000)
        await harness.valkey.start()
        await harness.stop_traffic()
        await _recovered(harness, lost)


async def _spooled(harness: Scene, events: int) -> None:
    await harness.start_traffic()
    await harness.valkey.kill()
    await spools(harness, events)


def _checkpointed(harness: Scene) -> Path:
    """Return the spool's file when its log has been copied into it."""
    path = harness.service.data_dir / "spool" / "000.sqlite"
    with closing(sqlite3.connect(path, timeout=5)) as database:
        database.execute("PRAGMA wal_checkpoint(FULL)")
    return path


async def _recovered(harness: Scene, lost: set[int]) -> None:
    """Assert that a file is set aside, and that nothing is missing but what stood on the damaged pages."""
    await harness.until(lambda: files_set_aside(harness.service.data_dir / "spool") != [])
    assert await harness.settled()
    comparison = await harness.comparison()
    assert lost
    assert set(comparison.missing) <= lost
    assert (comparison.doubled, comparison.strange) == ([], 0)
