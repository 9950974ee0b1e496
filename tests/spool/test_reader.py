"""Everything that SELECT reads of a damaged file is read, and it is known whether that is all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest
from spool.damage import GOOD, entries, filled, inner, leaves, number_of, on_pages, overwrite

from receiver.spool.budget import PAGE
from receiver.spool.recovery import RowReader, read_only


def read(path):
    """Return the numbers of the events that can be read, in their order, and whether these are all."""
    with closing(read_only(path)) as database:
        reader = RowReader(database)
        return [number_of(entry.data) for entry in reader], reader.complete


def test_a_sound_file_is_read_whole(tmp_path):
    assert read(filled(tmp_path, 0, range(1, 3000))) == (list(range(1, 3000)), True)


@pytest.mark.parametrize("places", [[0], [100], [100, 101, 103, 200], [-1], [0, 50, -1], range(0, 300, 2)])
def test_only_what_stands_on_damaged_pages_is_missing(tmp_path, places):
    """At the front, in the midst with sound pages in between, at the end."""
    path = filled(tmp_path, 0, range(1, 3000))
    all_pages = leaves(path)
    pages = [all_pages[place] for place in places]
    lost = on_pages(path, *pages)
    overwrite(path, *pages)
    assert read(path) == ([number for number in range(1, 3000) if number not in lost], False)


def test_behind_a_damaged_page_above_the_rows_all_is_read(tmp_path):
    """It hides thousands of events at once."""
    path = filled(tmp_path, 0, range(1, 20_000))
    above = inner(path)
    assert len(above) > 1
    overwrite(path, above[0])
    found, complete = read(path)
    assert found == list(range(20_000 - len(found), 20_000))
    assert (len(found) > 10_000, complete) == (True, False)


def test_a_damaged_front_does_not_hide_what_is_far_behind_it(tmp_path):
    """Millions were drained from a file before: its places begin late."""
    path = filled(tmp_path, 0, range(1))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE entries SET seq = 6000000")
        rows = [(GOOD, entry.id, entry.data) for entry in entries(*range(1, 1000))]
        database.executemany("INSERT INTO entries (topic, id, data) VALUES (?, ?, ?)", rows)
    first = leaves(path)[0]
    lost = on_pages(path, first)
    overwrite(path, first)
    assert read(path) == ([number for number in range(1000) if number not in lost], False)


@pytest.mark.parametrize("garbage", [b"\xff\xfe", b"", b'"cut', b"\0" * 400, b'"\xff"', b'"\0"', None])
def test_a_row_that_is_no_event_is_passed_over(tmp_path, garbage):
    """SQLite has no checksum of a row: garbage in the midst of one reads like anything else."""
    path = filled(tmp_path, 0, range(1, 10))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE entries SET data = ? WHERE seq = 5", (garbage,))
    assert read(path) == ([1, 2, 3, 4, 6, 7, 8, 9], False)


@pytest.mark.parametrize("column", ["topic", "id", "data"])
def test_text_that_is_none_is_passed_over(tmp_path, column):
    """Damage can make text of what was none, and of text what is none: Python raises then, without a code of SQLite."""
    path = filled(tmp_path, 0, range(1, 10))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE entries SET {column} = CAST(x'ff' AS TEXT) WHERE seq = 5")  # noqa: S608 our own names
    assert read(path) == ([1, 2, 3, 4, 6, 7, 8, 9], False)


def test_of_what_is_no_database_nothing_is_read(tmp_path):
    path = tmp_path / "000.sqlite"
    path.write_bytes(b"no database " * 1000)
    assert read(path) == ([], False)


def test_a_file_that_is_busy_is_not_taken_for_damaged(tmp_path):
    """The error is passed on; later it reads."""
    path = filled(tmp_path, 0, range(1, 10))
    with closing(sqlite3.connect(path)) as other, closing(sqlite3.connect(path, timeout=0)) as database:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        reader = RowReader(database)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            reader.step()
        other.close()
        assert [number_of(entry.data) for entry in reader] == list(range(1, 10))


def test_of_a_file_that_was_cut_all_in_front_is_read(tmp_path):
    """SQLite refuses a file that is shorter than its header says."""
    path = filled(tmp_path, 0, range(1, 3000))
    pages = path.stat().st_size // PAGE // 2
    kept = on_pages(path, *(page for page in leaves(path) if page < pages))
    os.truncate(path, pages * PAGE)
    assert read(path) == (sorted(kept), False)
