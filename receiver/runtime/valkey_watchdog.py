"""Restarts the embedded Valkey when it ends while the application runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from receiver.app import OPS
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from receiver.embedded import EmbeddedValkey

#: Seconds between two checks.
_CHECK_EVERY: Final = 1.0


def add_watch(app: web.Application, valkey: EmbeddedValkey) -> None:
    """Keep an embedded Valkey running while the application runs."""

    async def watchdog(app: web.Application) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(app, valkey), name="Valkey watchdog")
        yield
        await cancel_and_wait(watching)

    app.cleanup_ctx.append(watchdog)


async def _watch(app: web.Application, valkey: EmbeddedValkey) -> None:
    while True:
        await asyncio.sleep(_CHECK_EVERY)
        if app[OPS].stopping:  # systemd signals Valkey together with the service
            return
        await asyncio.to_thread(valkey.restart_if_ended)
