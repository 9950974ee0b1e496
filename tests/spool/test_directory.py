"""The folder of the spool: it outlives a power cut, and each file has one holder."""

from __future__ import annotations

import re
import subprocess
import sys

from chaos.tracing import strace

_OPEN = """
import asyncio, pathlib, sys
from receiver.spool.spool import Spool

async def main():
    spool = Spool(pathlib.Path(sys.argv[1]), 1 << 30)
    await spool.open()
    await spool.close()

asyncio.run(main())
"""


def test_the_parents_of_a_new_folder_are_synced(tmp_path):
    """Else a power cut takes the folder, with all that was acknowledged: SQLite syncs only what is in it."""
    trace, folder = tmp_path / "trace", tmp_path / "new" / "data" / "spool"
    watched = [strace(), "-f", "-y", "-e", "trace=fsync", "-o", str(trace), sys.executable, "-c", _OPEN, str(folder)]
    subprocess.run(watched, check=True, capture_output=True)
    synced = set(re.findall(r"fsync\(\d+<(.+?)>\) += 0", trace.read_text()))
    assert {str(parent) for parent in folder.parents if parent.is_relative_to(tmp_path)} <= synced
