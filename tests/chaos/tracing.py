"""Watches what a service asks of its disk, slows it down and lets it fail: strace on a living process."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from receiver.chaos.processes import Child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.chaos.processes import ReceiverProcess


@asynccontextmanager
async def traced(
    service: ReceiverProcess, folder: Path, *, sync_takes: float = 0.0, sync_fails: str = ""
) -> AsyncIterator[Path]:
    """Write the service's syncs to a file, and make each so many seconds longer. Skips where that is not allowed.

    ``sync_fails``: which of them fail with EIO: ``1`` the first one, ``1+`` all.
    """
    trace, watcher = folder / "trace", Child(folder / "strace.log")
    options = ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
    if sync_takes:
        options += ["-e", f"inject=fsync,fdatasync:delay_exit={int(1e6 * sync_takes)}"]
    if sync_fails:
        options += ["-e", f"inject=fsync,fdatasync:error=EIO:when={sync_fails}"]
    watcher.spawn([strace(), *options, "-p", str(service.pid)])
    async with asyncio.timeout(60):
        while watcher.alive and not watched(service.pid):
            await asyncio.sleep(0.01)
    if not watcher.alive:
        pytest.skip(f"strace may not watch: {watcher.log.read_text().strip()}")
    try:
        yield trace
    finally:
        if sync_takes:
            await watcher.kill()  # asked to end, it would sit the delays out
        else:
            await watcher.stop()


def watched(pid: int) -> bool:
    """Tell whether each thread of a process is traced."""
    try:
        states = [path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/status")]
    except OSError:  # a thread has ended meanwhile
        return False
    return not any("\nTracerPid:\t0\n" in state for state in states)


def strace() -> str:
    """Return its path. Skips the test where it is not installed."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed: nobody can see whether the service syncs")
    return path
