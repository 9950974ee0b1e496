"""Real damage to real SQLite files, and what it takes with it."""

from __future__ import annotations

import random
import re
from functools import partial
from typing import TYPE_CHECKING

from receiver.events import Entry
from receiver.spool.budget import PAGE
from receiver.spool.directory import file_of
from receiver.spool.file import lock_file

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "urn:smn:local:p:good"
MOST = 1 << 30
_LEAF, _INNER = 13, 5
_NUMBER = rb'"n(\d+)\.'


def entries(*numbers: int, topic: str = GOOD) -> list[Entry]:
    """Return events by number, of the size of real ones."""
    return [Entry(topic, number.to_bytes(16, "big"), b'"n%d.%s"' % (number, b"x" * 400)) for number in numbers]


def number_of(data: bytes) -> int:
    """Return the number of an event."""
    return int(re.search(_NUMBER, data)[1])


def filled(folder: Path, number: int, numbers: range) -> Path:
    """Make a file of nobody's with events."""
    folder.mkdir(exist_ok=True)
    orphan = lock_file(file_of(folder, number), MOST)
    orphan.add(entries(*numbers))
    orphan.close()
    return file_of(folder, number)


def leaves(path: Path, of: bytes = _NUMBER) -> list[int]:
    """Return the pages that hold events, in the order of the events."""
    with path.open("rb") as file:
        pages = list(iter(partial(file.read, PAGE), b""))
    found = {at: re.findall(of, page) for at, page in enumerate(pages) if page[0] == _LEAF}
    return sorted((at for at in found if found[at]), key=lambda at: min(map(int, found[at])))


def inner(path: Path) -> list[int]:
    """Return the pages above those that hold events, without the first of each table."""
    raw = path.read_bytes()
    return [page for page in range(4, len(raw) // PAGE) if raw[page * PAGE] == _INNER]


def on_pages(path: Path, *pages: int, of: bytes = _NUMBER) -> set[int]:
    """Return the numbers of the events that stand on pages."""
    raw = path.read_bytes()
    return {int(found) for page in pages for found in re.findall(of, raw[page * PAGE : (page + 1) * PAGE])}


def overwrite(path: Path, *pages: int) -> None:
    """Write garbage over pages, as a broken disk does."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(random.Random(page).randbytes(PAGE))  # noqa: S311 no secret
