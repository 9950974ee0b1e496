"""The spool is damaged: what can be read of it is published once, whatever happens to the process meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from spool.damage import leaves, on_pages, overwrite

from receiver.proving.stage import Stage
from receiver.spool.directory import files_set_aside, suspect_files

if TYPE_CHECKING:
    from pathlib import Path

#: What the provider calls an event, in its sid or its text.
_NUMBER = rb'"(?:message_id|reply)":"[0-9a-z]*:(\d+)"'


async def test_killed_while_it_recovers(tmp_path: Path) -> None:
    """SIGKILL in the midst, again and again: the next process begins anew, and nothing is doubled."""
    async with Stage(tmp_path, rate=20_000, batch=100) as stage:
        await _spooled(stage, 3)
        await stage.quiet()
        await stage.service.kill()
        damaged = _checkpointed(stage)
        page = leaves(damaged, _NUMBER)[0]
        lost = on_pages(damaged, page, of=_NUMBER)
        overwrite(damaged, page)
        await asyncio.gather(stage.service.start(), stage.valkey.start())
        in_the_midst = 0
        for _ in range(3):
            before = _published(stage)
            await stage.until(lambda before=before: _published(stage) > before)
            await stage.service.kill()
            in_the_midst += suspect_files(damaged.parent) != []
            await stage.service.start()
        assert in_the_midst, "the recovery was over before each kill"
        await _recovered(stage, lost)


async def test_damaged_while_it_is_written_to(tmp_path: Path) -> None:
    """Redis comes back and the drain finds out, under load: what is acknowledged from then on is elsewhere."""
    async with Stage(tmp_path) as stage:
        await _spooled(stage, 3)
        damaged = _checkpointed(stage)
        sound = leaves(damaged, _NUMBER)
        pages = sound[len(sound) // 2 :: 100][:3]
        lost = on_pages(damaged, *pages, of=_NUMBER)
        overwrite(damaged, *pages)
        await asyncio.sleep(0.5)
        await stage.valkey.start()
        await stage.until(lambda: files_set_aside(damaged.parent) != [])
        await stage.valkey.kill()
        before = stage.ledger.acknowledged
        await stage.until(lambda: stage.ledger.acknowledged > before + 1000)
        await stage.valkey.start()
        await stage.quiet()
        await _recovered(stage, lost)


async def _spooled(stage: Stage, seconds: float) -> None:
    await stage.traffic()
    await stage.valkey.kill()
    await asyncio.sleep(seconds)


def _checkpointed(stage: Stage) -> Path:
    """Return the spool's file when its log has been copied into it."""
    path = stage.service.data_dir / "spool" / "000.sqlite"
    with closing(sqlite3.connect(path, timeout=5)) as database:
        database.execute("PRAGMA wal_checkpoint(FULL)")
    return path


def _published(stage: Stage) -> int:
    with stage.valkey.client() as client:
        return sum(client.xlen(key) for key in client.scan_iter(match="urn:smn:*", _type="stream"))


async def _recovered(stage: Stage, lost: set[int]) -> None:
    """Assert that a file is set aside, and that nothing is missing but what stood on the damaged pages."""
    await stage.until(lambda: files_set_aside(stage.service.data_dir / "spool") != [])
    assert await stage.settled()
    verdict = await stage.verdict()
    assert lost
    assert set(verdict.missing) <= lost
    assert (verdict.doubled, verdict.strange) == ([], 0)
