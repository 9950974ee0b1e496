"""The report index beside the service: a child process, so that it takes nothing from the callbacks' event loop.

It runs at a lower priority. Of several services that share a data folder one runs the child; when that one ends,
another takes over within seconds.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from io import TextIOWrapper

    from aiohttp import web

    from receiver.log import Logger
    from receiver.settings import Settings

#: Seconds until a child that ended is started again, and between tries to take over from another service.
_AGAIN: Final = 2.0
#: Seconds for the child to end in peace.
_STOP_TIMEOUT: Final = 5.0


def add_index(app: web.Application, settings: Settings, redis_url: str, logger: Logger) -> None:
    """Keep a ``receiver index`` running while the application runs, unless the settings say not to."""

    async def index_beside(_app: web.Application) -> AsyncIterator[None]:
        keeping = asyncio.create_task(_keep(settings, dict(os.environ, REDIS_URL=redis_url), logger))
        yield
        keeping.cancel()
        await asyncio.wait([keeping])

    if settings.index:
        app.cleanup_ctx.append(index_beside)


async def _keep(settings: Settings, environ: dict[str, str], logger: Logger) -> None:
    with (settings.data_dir / "index.lock").open("w") as lock:
        while not _locked(lock):  # noqa: ASYNC110 another process lets go of it, and says so to nobody
            await asyncio.sleep(_AGAIN)
        # Files of counts are for the workers alone.
        environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        while True:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "receiver",
                "index",
                "--beside",
                str(os.getpid()),
                env=environ,
                start_new_session=True,
            )
            try:
                code = await child.wait()
            except asyncio.CancelledError:
                await _end(child)
                raise
            logger.error("indexer.ended", code=code)
            await asyncio.sleep(_AGAIN)


def _locked(lock: TextIOWrapper) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        await asyncio.wait_for(child.wait(), _STOP_TIMEOUT)
    except TimeoutError:
        child.kill()
        await child.wait()
