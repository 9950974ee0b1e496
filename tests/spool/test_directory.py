"""The folder of the spool: it outlives a power cut, and each file has one holder."""

from __future__ import annotations

import re
import subprocess
import sys

from chaos.tracing import strace
from spool.damage import entries

from receiver.spool.directory import disk_bytes, file_of, parts
from receiver.spool.file import lock_file
from receiver.spool.status import status, statuses

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


def test_a_suspect_file_whose_renaming_was_cut_short_keeps_its_log(tmp_path):
    """The log is renamed first. Opened without it the file would have lost acknowledged rows."""
    path, suspect = file_of(tmp_path, 0), tmp_path / "000.suspect-20261126T080000Z.sqlite"
    killed = lock_file(path, 1 << 30)
    killed.add(entries(1, 2))
    kept = {part.name: part.read_bytes() for part in parts(path)}
    killed.close()
    for name, content in kept.items():  # as a kill leaves them, with the rows in the log
        (tmp_path / name.replace("000.sqlite-", f"{suspect.name}-")).write_bytes(content)
    new = lock_file(path, 1 << 30)
    assert new.count() == 0
    new.close()
    assert status(suspect).events == 2


def test_a_file_that_was_removed_between_two_looks_is_left_out(tmp_path):
    """A service removes its file when it has drained it."""
    assert statuses([file_of(tmp_path, 0)]) == []
    assert disk_bytes(file_of(tmp_path, 0)) == 0
