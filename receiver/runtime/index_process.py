"""The report index beside the service: a child process, so that it takes nothing from the callbacks' event loop.

It runs at a lower priority, and only for those who look reports up: from the start when a project is configured for
it or has ever done so, else from the first look-up on. The index then catches up from the beginning of the streams. Of
several services that share a data folder one runs the child; when that one ends, another takes over within seconds.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from typing import TYPE_CHECKING, Final

from receiver.app import INDEX_WANTED, OPS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from io import TextIOWrapper
    from pathlib import Path

    from aiohttp import web

    from receiver.log import Logger
    from receiver.projects import Project
    from receiver.settings import Settings

#: Seconds until a child that ended is started again, and between tries to take over from another service.
_AGAIN: Final = 2.0
#: Seconds for the child to end by itself. Killed after that, it loses nothing: it goes on from its group's place.
STOP_TIMEOUT: Final = 3.0


def add_index(app: web.Application, settings: Settings, redis_url: str, logger: Logger) -> None:
    """Keep a ``receiver index`` running while the application runs, unless the settings say not to."""

    async def index_beside(app: web.Application) -> AsyncIterator[None]:
        if settings.index == "1" or _lock_of(settings).exists() or any(map(_looks_up, settings.projects.values())):
            app[INDEX_WANTED].set()
        environ = {**os.environ, "REDIS_URL": redis_url}
        keeping = asyncio.create_task(_keep(app, _lock_of(settings), environ, logger))
        yield
        keeping.cancel()
        await asyncio.wait([keeping])

    if settings.index != "0":
        app.cleanup_ctx.append(index_beside)


def _lock_of(settings: Settings) -> Path:
    """Return the file that the service holds which runs the index; that it is there tells that one has run."""
    return settings.data_dir / "index.lock"


def _looks_up(project: Project) -> bool:
    return bool(project.sign_id or project.tokens or project.access_keys or project.users)


async def _keep(app: web.Application, lock: Path, environ: dict[str, str], logger: Logger) -> None:
    """Run the index until we stop, again and again; whatever goes wrong with it is told and tried again."""
    await app[INDEX_WANTED].wait()
    while not app[OPS].stopping:  # systemd asks the child to end when it asks us
        try:
            code = await _run(lock, environ)
        except Exception as error:  # noqa: BLE001 a service without its index looks like one that has no reports
            logger.error("indexer.not_started", error=error)  # noqa: TRY400 as a rule the disk says no
        else:
            if code is not None and not app[OPS].stopping:
                logger.error("indexer.ended", code=code)
        await asyncio.sleep(_AGAIN)


async def _run(path: Path, environ: dict[str, str]) -> int | None:
    """Run the child to its end and return its exit code, or None at once when another service runs one."""
    with path.open("w") as lock:
        if not _locked(lock):
            return None
        command = (sys.executable, "-m", "receiver", "index", "--beside", str(os.getpid()))
        child = await asyncio.create_subprocess_exec(*command, env=environ, start_new_session=True)
        try:
            return await child.wait()
        except asyncio.CancelledError:
            await _end(child)
            raise


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
        await asyncio.wait_for(child.wait(), STOP_TIMEOUT)
    except TimeoutError:
        child.kill()
        await child.wait()
