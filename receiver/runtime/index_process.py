"""Runs the report index in a child process, so that it takes no time from the callbacks' event loop.

The child has a lower priority. It starts with the service if a project is configured for lookups or the index has run
before, otherwise at the first lookup; it then catches up from the beginning of the streams. Of several services that
share a data folder one runs the child. When that service ends, another takes over within seconds.

The child reads no file of projects: the service writes the streams to its stdin, as a JSON array a line, and again when
they change. So a reload reaches the index, and a broken file does not. The end of stdin is the end of the service.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.app import INDEX_WANTED, OPS, ROUTING
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from io import TextIOWrapper
    from pathlib import Path

    from aiohttp import web

    from receiver.log import Logger
    from receiver.projects import Projects
    from receiver.settings import Settings

#: Seconds until a child that ended is started again, and between attempts to take over from another service.
_RETRY: Final = 2.0
#: Seconds between two looks at the streams.
_FEED_EVERY: Final = 0.4
#: Seconds for the child to end by itself. A kill after that loses nothing: the consumer group keeps the position.
STOP_TIMEOUT: Final = 3.0


def add_index(app: web.Application, settings: Settings, environ: Mapping[str, str], logger: Logger) -> None:
    """Keep ``receiver index`` running with these variables while the application runs, unless settings disable it."""

    async def index_process(app: web.Application) -> AsyncIterator[None]:
        if settings.index == "1" or _lock_of(settings).exists() or looks_up(settings.projects):
            app[INDEX_WANTED].set()
        own = {name: value for name, value in environ.items() if name != "RECEIVER_CONFIG"}
        keeping = asyncio.create_task(_keep(app, _lock_of(settings), own, logger), name="report index")
        yield
        keeping.cancel()  # once: a second cancellation would interrupt it while it waits for its child to end
        await asyncio.wait([keeping])

    if settings.index != "0":
        app.cleanup_ctx.append(index_process)


def _lock_of(settings: Settings) -> Path:
    """Return the lock of the service that runs the index. The file exists once an index has run."""
    return settings.data_dir / "index.lock"


def looks_up(projects: Projects) -> bool:
    """Return whether a project is configured for lookups, which need the index."""
    return any(one.sign_id or one.tokens or one.access_keys or one.users for one in projects.values())


async def _keep(app: web.Application, lock: Path, environ: Mapping[str, str], logger: Logger) -> None:
    """Run the index until the service stops. Log every failure and retry."""
    await app[INDEX_WANTED].wait()
    while not app[OPS].stopping:  # systemd signals the child together with the service
        try:
            code = await _run(lock, environ, app[ROUTING].event_topics)
        except Exception as error:  # noqa: BLE001 without its index the service would answer that there are no reports
            logger.error("indexer.not_started", error=error)  # noqa: TRY400 usually an error of the disk
        else:
            if code is not None and not app[OPS].stopping:
                logger.error("indexer.ended", code=code)
        await asyncio.sleep(_RETRY)


async def _run(path: Path, environ: Mapping[str, str], topics: Callable[[], list[str]]) -> int | None:
    """Run the child and return its exit code; return None at once when another service runs one."""
    with path.open("w") as lock:
        if not _locked(lock):
            return None
        command = (sys.executable, "-m", "receiver", "index", "--beside", str(os.getpid()))
        child = await asyncio.create_subprocess_exec(*command, env=environ, stdin=PIPE, start_new_session=True)
        feeding = asyncio.create_task(_feed(child, topics), name="feed index")
        try:
            return await child.wait()
        except asyncio.CancelledError:
            await _end(child)
            raise
        finally:
            await cancel_and_wait(feeding)


async def _feed(child: asyncio.subprocess.Process, topics: Callable[[], list[str]]) -> None:
    """Write the streams to the child whenever they have changed, until it has ended."""
    if child.stdin is None:
        return
    written: list[str] | None = None
    while child.returncode is None:
        now = topics()
        if now != written:
            written = now
            child.stdin.write(msgspec.json.encode(now) + b"\n")
            with suppress(ConnectionError):  # it has just ended
                await child.stdin.drain()
        await asyncio.sleep(_FEED_EVERY)


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
