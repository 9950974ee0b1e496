"""The rows of a spool file: stores an entry as a row, and validates a row on reading."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from receiver.events import Entry
from receiver.spool.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, topic TEXT, id BLOB, data BLOB);
CREATE TABLE IF NOT EXISTS parked (seq INTEGER PRIMARY KEY, topic TEXT, id BLOB, data BLOB);
CREATE TABLE IF NOT EXISTS probe (one INTEGER PRIMARY KEY, times INTEGER);
"""
#: The columns of an entry as bytes: Python's sqlite3 fails at text that damage has made invalid.
COLUMNS: Final = "CAST(topic AS BLOB), CAST(id AS BLOB), CAST(data AS BLOB)"
_ID_BYTES: Final = 16

_json: Final = msgspec.json.Decoder(msgspec.Raw)


class SpoolRow(NamedTuple):
    """An entry with its place in the file."""

    seq: int
    entry: Entry


def row_of(entry: Entry) -> tuple[str, bytes, bytes]:
    """Return the columns of an entry."""
    return entry.topic, entry.id, entry.data


def entry_of(topic: object, id_: object, data: object) -> Entry:
    """Return the entry of a row, read as ``COLUMNS``. Raises DamagedError for a row that we cannot have written.

    SQLite has no checksums, so it returns garbage inside a row without an error.
    """
    if not (isinstance(topic, bytes) and isinstance(id_, bytes) and isinstance(data, bytes)) or len(id_) != _ID_BYTES:
        raise DamagedError("a row holds values of other types than were written")
    try:
        _json.decode(data)
        data.decode()  # msgspec does not check the UTF-8 of a raw value
        return Entry(topic.decode(), id_, data)
    except (UnicodeDecodeError, msgspec.MsgspecError):
        raise DamagedError("a row holds no event") from None


def runs(places: list[int]) -> Iterator[tuple[int, int]]:
    """Return the first and the last place of each run without a gap. Usually one run, deleted by one statement."""
    for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        found = [place for _, place in run]
        yield found[0], found[-1]
