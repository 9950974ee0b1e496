"""The embedded Valkey, watched while the application runs: one that ends is started again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from receiver.app import OPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from receiver.embedded import EmbeddedValkey

#: Seconds between two looks.
_LOOK: Final = 1.0


def add_watch(app: web.Application, valkey: EmbeddedValkey) -> None:
    """Keep an embedded Valkey running while the application runs."""

    async def watched(app: web.Application) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(app, valkey))
        yield
        watching.cancel()
        await asyncio.wait([watching])

    app.cleanup_ctx.append(watched)


async def _watch(app: web.Application, valkey: EmbeddedValkey) -> None:
    while True:
        await asyncio.sleep(_LOOK)
        if app[OPS].stopping:  # systemd asks it to end when it asks us
            return
        await asyncio.to_thread(valkey.look_after)
