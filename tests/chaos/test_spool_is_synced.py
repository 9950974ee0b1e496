"""An ack from disk follows a sync of the disk: no kill shows that, since the kernel keeps what a dead process wrote."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import aiohttp
import pytest

from receiver.proving.processes import Child
from receiver.proving.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

_CALLBACKS = 20
_REPLY = {"mobile": "13800138000", "nationcode": "86", "sign": "proof", "time": 1_770_000_000}


async def test_every_ack_from_disk_has_its_fsync(tmp_path: Path) -> None:
    """Twenty callbacks one after the other, Redis away: at least twenty times the service waits for the disk."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: nobody can see whether the service syncs")
    async with Stage(tmp_path) as stage, aiohttp.ClientSession() as session:
        await stage.valkey.kill()
        await _post(session, stage, "opens the breaker")
        trace, watcher = tmp_path / "trace", Child(tmp_path / "strace.log")
        calls = ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
        watcher.spawn([strace, *calls, "-p", str(stage.service.pid)])
        await asyncio.sleep(0.5)
        if not watcher.alive:
            pytest.skip(f"strace may not watch: {watcher.log.read_text().strip()}")
        for number in range(_CALLBACKS):
            await _post(session, stage, f"prove0:{number}")
        await watcher.stop()
    assert trace.read_text().count("sync(") >= _CALLBACKS


async def _post(session: aiohttp.ClientSession, stage: Stage, text: str) -> None:
    async with session.post(stage.service.url + "/sms/callback", json=_REPLY | {"text": text}) as response:
        assert (await response.json())["result"] == 0
