"""An ack from disk follows a sync of the disk: no kill shows that, since the kernel keeps what a dead process wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from chaos.guarantees import Scene
from chaos.tracing import traced

if TYPE_CHECKING:
    from pathlib import Path

_CALLBACKS = 20
_REPLY = {"mobile": "13800138000", "nationcode": "86", "sign": "proof", "time": 1_770_000_000}


async def test_every_ack_from_disk_has_its_fsync(tmp_path: Path) -> None:
    """Twenty callbacks one after the other, Redis away: at least twenty times the service waits for the disk."""
    async with Scene(tmp_path) as harness, aiohttp.ClientSession() as session:
        await harness.valkey.kill()
        await _post(session, harness, "opens the breaker")
        async with traced(harness.service, tmp_path) as trace:
            for number in range(_CALLBACKS):
                await _post(session, harness, f"prove0:{number}")
    assert trace.read_text().count("sync(") >= _CALLBACKS


async def _post(session: aiohttp.ClientSession, harness: Scene, text: str) -> None:
    async with session.post(harness.service.url + "/sms/callback", json=_REPLY | {"text": text}) as response:
        assert (await response.json())["result"] == 0
