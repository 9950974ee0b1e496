"""``receiver spool``."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli.conftest import json_lines
from messages import FAIL, SUCCESS, report
from servers import free_port
from spool.damage import leaves, on_pages, overwrite

from receiver.delivery.dedupe_window import KEY
from receiver.events import Entry, EnvelopeBuilder, Event, EventType
from receiver.spool.directory import file_of
from receiver.spool.file import SpoolFile, lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.conftest import Run
    from redis import Redis

_RECEIVED = 1_600_000_000_123
_DAMAGED = rb'"message_id": "d(\d+)"'


def _entries(topic: str, *sids: str) -> list[Entry]:
    seal = EnvelopeBuilder("tencent", "default").build
    data = [json.dumps({"message_id": sid, **report()}).encode() for sid in sids]
    return [seal(Event(EventType.SUCCESS, None, one), topic, _RECEIVED) for one in data]


def _file(folder: Path, number: int) -> SpoolFile:
    folder.mkdir(parents=True, exist_ok=True)
    spool_file = lock_file(file_of(folder, number), 1 << 30)
    assert spool_file is not None
    return spool_file


@pytest.fixture
def folder(environ: dict[str, str]) -> Path:
    """Return the folder of a spool: one file of nobody's, with 1,500 events for one topic and one for another."""
    path = Path(environ["RECEIVER_DATA_DIR"]) / "spool"
    left_behind = _file(path, 0)
    left_behind.add(_entries(SUCCESS, *map(str, range(1500))) + _entries(FAIL, "f"))
    left_behind.close()
    return path


@pytest.fixture
def living(folder: Path) -> Iterator[SpoolFile]:
    """Hold a file as a living service does, with an event that was just added."""
    spool_file = _file(folder, 1)
    spool_file.add(_entries(SUCCESS, "living"))
    yield spool_file
    spool_file.close()


@pytest.mark.usefixtures("folder", "living")
def test_status_tells_what_waits_and_which_files_are_in_use(run_here: Run) -> None:
    free, held = json_lines(run_here("spool", "status", "--json"))
    assert (free["events"], free["in_use"], free["topics"]) == (1501, False, {SUCCESS: 1500, FAIL: 1})
    assert (held["events"], held["in_use"], held["oldest_time"]) == (1, True, "2020-09-13T12:26:40.123Z")
    shown = run_here("spool", "status").stdout
    assert "in use by a living process" in shown
    assert "1,502 events wait" in shown


@pytest.mark.parametrize("command", [("status",), ("drain",), ("export",), ("status", "--json")])
def test_a_folder_without_a_spool_is_the_wrong_one(run_here: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    """And is not made: an empty answer would hide the events of the right one."""
    result = run_here("spool", *command, "--data-dir", str(tmp_path / "elsewhere"))
    assert (result.returncode, result.stdout) == (2, "")
    assert f"there is no spool in {tmp_path / 'elsewhere'}. Run this in the folder of `receiver serve`" in result.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_drain_publishes_what_nobody_holds_once(cli_redis: Redis, run_here: Run, living: SpoolFile) -> None:
    result = run_here("spool", "drain")
    assert "1,501 events published." in result.stdout
    assert "001.sqlite is in use" in result.stderr
    assert (cli_redis.xlen(SUCCESS), cli_redis.xlen(FAIL)) == (1500, 1)
    assert living.count() == 1
    assert "0 events published." in run_here("spool", "drain").stdout


def test_drain_keeps_what_a_topic_does_not_take(cli_redis: Redis, run_here: Run, folder: Path) -> None:
    cli_redis.set(FAIL, "in the way")
    result = run_here("spool", "drain")
    assert result.returncode == 1
    assert "WRONGTYPE" in result.stderr
    assert "1 events stay" in result.stderr
    (one,) = json_lines(run_here("spool", "status", "--json"))
    assert (one["events"], one["parked"]) == (1, 1)
    cli_redis.delete(FAIL)
    assert run_here("spool", "drain").returncode == 0
    assert cli_redis.xlen(FAIL) == 1
    assert folder.is_dir()


@pytest.mark.usefixtures("folder")
def test_drain_without_redis_loses_nothing(run_here: Run) -> None:
    result = run_here("spool", "drain", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert json_lines(run_here("spool", "status", "--json"))[0]["events"] == 1501


@pytest.mark.usefixtures("folder", "living")
def test_export_writes_every_event_and_removes_none(run_here: Run, tmp_path: Path) -> None:
    result = run_here("spool", "export")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["data"]["message_id"] for event in events] == [*map(str, range(1500)), "f", "living"]
    assert result.stderr == "1,502 events exported.\n"
    output = tmp_path / "events.jsonl"
    assert run_here("spool", "export", "-o", str(output)).returncode == 0
    assert output.read_text() == result.stdout
    again = run_here("spool", "export", "-o", str(output))
    assert (again.returncode, "name another file" in again.stderr) == (2, True)


@pytest.fixture
def damaged(folder: Path) -> tuple[Path, int]:
    """Return a file of nobody's with a page of garbage, and how many events stood on that page."""
    left_behind = _file(folder, 1)
    left_behind.add(_entries(SUCCESS, *(f"d{number}" for number in range(1000))))
    left_behind.close()
    page = leaves(left_behind.path, _DAMAGED)[50]
    lost = len(on_pages(left_behind.path, page, of=_DAMAGED))
    overwrite(left_behind.path, page)
    return left_behind.path, lost


def test_a_damaged_file_harms_no_other(cli_redis: Redis, run_here: Run, damaged: tuple[Path, int]) -> None:
    """What can be read of it is published, and the rest is set aside, and shown, and exported once more."""
    path, lost = damaged
    assert run_here("spool", "status").returncode == 1
    result = run_here("spool", "drain")
    assert result.returncode == 1
    assert "001.sqlite cannot be drained" in result.stderr
    assert f"{1000 - lost} events of 001.suspect-" in result.stderr
    assert "some of it cannot be read" in result.stderr
    assert "sqlite3 001.damaged-" in result.stderr
    assert cli_redis.xlen(SUCCESS) == 2500 - lost
    (aside,) = path.parent.glob("001.damaged-*.sqlite")
    shown = run_here("spool", "status")
    assert (shown.returncode, "damaged and set aside" in " ".join(shown.stdout.split())) == (1, True)
    (one,) = [one for one in json_lines(run_here("spool", "status", "--json")) if one["set_aside"]]
    assert (one["file"], one["events"], "damaged" in one["problem"]) == (aside.name, 0, True)
    before = aside.read_bytes()
    assert "0 events published." in run_here("spool", "drain").stdout
    exported = run_here("spool", "export")
    assert (exported.returncode, exported.stdout.count("\n")) == (1, 1000 - lost)
    assert f"{aside.name} is damaged: some of it cannot be read." in exported.stderr
    assert aside.read_bytes() == before


def test_export_goes_on_past_damage_where_nothing_was_salvaged(run_here: Run, damaged: tuple[Path, int]) -> None:
    """There is no Redis, or no service; a file that cannot be read at all does not end it either."""
    path, lost = damaged
    path.with_name("002.sqlite").write_bytes(b"no database " * 1000)
    left_behind = _file(path.parent, 3)
    left_behind.add(_entries(SUCCESS, "last"))
    left_behind.close()
    result = run_here("spool", "export")
    assert (result.returncode, result.stdout.count("\n")) == (1, 2502 - lost)
    assert '"last"' in result.stdout.splitlines()[-1]
    assert "001.sqlite is damaged: some of it cannot be read." in result.stderr
    assert "002.sqlite" in result.stderr
    assert path.exists()


def test_looking_at_a_file_that_was_emptied_does_not_cost_its_log(run_here: Run, folder: Path) -> None:
    """SQLite discards a log beside an empty file, even when it only reads."""
    living = _file(folder, 1)
    living.add(_entries(SUCCESS, "in the log"))
    killed = folder / "002.sqlite-wal"
    shutil.copy(folder / "001.sqlite-wal", killed)
    living.close()
    killed.with_name("002.sqlite").touch()
    assert "the file is empty" in json_lines(run_here("spool", "status", "--json"))[2]["problem"]
    assert "002.sqlite cannot be read" in run_here("spool", "export").stderr
    assert killed.stat().st_size > 0
    assert "002.sqlite cannot be drained" in run_here("spool", "drain").stderr
    (aside,) = folder.glob("002.damaged-*-wal")
    assert aside.stat().st_size > 0


def test_a_drain_uses_the_dedupe_window_of_the_service(cli_redis: Redis, run_here: Run, folder: Path) -> None:
    """Not that of its own environment: the ids that the service has marked are in other sets."""
    cli_redis.set(KEY, 3600)
    shutil.copy(folder / "000.sqlite", folder / "001.sqlite")
    assert "RECEIVER_DEDUPE_WINDOW=3600s" in run_here("spool", "drain").stderr
    assert cli_redis.xlen(SUCCESS) == 1500
    assert all(0 < cli_redis.ttl(key) <= 2 * 3600 for key in cli_redis.keys("*:seen:*"))


@pytest.mark.usefixtures("folder")
def test_an_export_to_a_full_disk_is_a_sentence_and_leaves_no_half_file(run_here: Run, tmp_path: Path) -> None:
    output = tmp_path / "events.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        result = run_here("spool", "export", "-o", str(output))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (result.returncode, result.stderr) == (
        2,
        f"cannot write {output}: File too large; name a file where there is room.\n",
    )
    assert not output.exists()
