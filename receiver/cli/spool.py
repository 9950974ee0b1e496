"""``receiver spool``: show, drain and export the events in the spool, without the service."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
from rich.filesize import decimal
from rich.text import Text

from receiver.cli.connections import HOW_TO_FIND_THE_FOLDER, run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import moment
from receiver.cli.lazy_group import OrderedGroup
from receiver.cli.options import json_option
from receiver.cli.output import echo_json, print_table, table
from receiver.cli.spool_drain import drain_files
from receiver.errors import ReceiverError
from receiver.spool.directory import files_set_aside, spool_files, suspect_files
from receiver.spool.status import FileStatus, readable, statuses

if TYPE_CHECKING:
    from receiver.settings import Settings


@click.group(
    cls=OrderedGroup,
    epilog="\b\nExamples:\n"
    "  receiver spool status                 number of events, by file and topic\n"
    "  receiver spool drain                  publish the events of a stopped service\n"
    "  receiver spool export > events.jsonl  save events without a Redis",
)
def spool() -> None:
    """Manage the events on disk that are not in Redis yet.

    A running service drains its spool by itself. These commands work on RECEIVER_DATA_DIR/spool without it.
    """


@spool.command("status")
@json_option
@with_environment
def status_(environment: Environment, *, as_json: bool) -> None:
    """Show the files and their contents."""
    folder = _folder(environment.settings())
    found = statuses(_all_files(folder))
    if as_json:
        for one in found:
            echo_json(one._asdict())
    elif not found:
        click.echo(f"No file is in {folder}.")
    else:
        _print_status(folder, found)
    if any(one.problem for one in found):
        sys.exit(1)


@spool.command()
@json_option
@with_environment
def drain(environment: Environment, *, as_json: bool) -> None:
    """Publish the events of files that no running process uses.

    An event is deleted from the disk only once Redis has it, and Redis adds no duplicates; the dedupe window is that of
    the service on this Redis. A file that is damaged, or had an I/O error, is set aside after its readable events are
    published.
    """
    settings = environment.settings()
    published, problems = run(drain_files(settings, _folder(settings)))
    for problem in problems:
        click.echo(f"receiver: {problem}", err=True)
    if as_json:
        echo_json({"events": published})
    else:
        click.echo(f"{published:,} events published.")
    if problems:
        sys.exit(1)


@spool.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default="-",
    help="A new file. [default: stdout]",
)
@with_environment
def export(environment: Environment, *, output: Path) -> None:
    """Write the events as JSON lines, without removing them.

    Unreadable parts are skipped, and the exit code is then 1. The readable events of a file that was set aside have
    also been published, or are in another file with the same ids.
    """
    paths = _all_files(_folder(environment.settings()))
    if str(output) == "-":
        number, problems = _export(paths, sys.stdout.buffer)
    else:
        number, problems = _export_to_file(paths, output)
    for problem in problems:
        click.echo(f"receiver: {problem}", err=True)
    click.echo(f"{number:,} events exported.", err=True)
    if problems:
        sys.exit(1)


def _export(paths: list[Path], out: IO[bytes]) -> tuple[int, list[str]]:
    """Write the events of files. Return their number, and what cannot be read. Raises OSError."""
    number = 0
    problems: list[str] = []
    for path in paths:
        try:
            with readable(path) as source:
                for entry in source:
                    out.write(entry.data + b"\n")
                    number += 1
        except sqlite3.Error as error:
            if path.exists():  # else a service has emptied and removed it
                problems.append(f"{path.name} cannot be read: {error}.")
        else:
            if not source.complete:
                problems.append(f"{path.name} is damaged: some of it cannot be read.")
    out.flush()
    return number, problems


def _export_to_file(paths: list[Path], output: Path) -> tuple[int, list[str]]:
    """Write the events into a new file. One that cannot be completed is removed."""
    new = _new_file(output)
    try:
        with new:
            return _export(paths, new)
    except OSError as error:
        output.unlink(missing_ok=True)
        raise ReceiverError(f"cannot write {output}: {error.strerror}; name a file where there is room.") from None


def _folder(settings: Settings) -> Path:
    """Return the spool's folder. Raises ReceiverError if it is not there or not readable: it must not look empty."""
    folder = settings.data_dir / "spool"
    try:
        next(folder.iterdir(), None)
    except (FileNotFoundError, NotADirectoryError):
        raise ReceiverError(f"there is no spool in {settings.data_dir}. {HOW_TO_FIND_THE_FOLDER}") from None
    except OSError as error:
        raise ReceiverError(
            f"cannot read {folder}: {error.strerror}. Run this as the user that runs `receiver serve`."
        ) from None
    return folder


def _all_files(folder: Path) -> list[Path]:
    return [*spool_files(folder), *suspect_files(folder), *files_set_aside(folder)]


def _new_file(path: Path) -> IO[bytes]:
    """Create a file. Never overwrites one: it may be the only copy of an earlier export."""
    try:
        return path.open("xb")
    except OSError as error:
        raise ReceiverError(f"cannot write {path}: {error.strerror}; name another file.") from None


def _print_status(folder: Path, found: list[FileStatus]) -> None:
    files = table("file", "events", "disk", "oldest", "state", ids=("file", "oldest"), right=("events", "disk"))
    for one in found:
        oldest = moment(one.oldest_time, date=True) if one.oldest_time else ""
        files.add_row(one.file, f"{one.events:,}", decimal(one.bytes), oldest, _state(one))
    topics = table("topic", "events", ids=("topic",), right=("events",))
    for topic, count in sum((Counter(one.topics) for one in found), Counter[str]()).most_common():
        topics.add_row(Text(topic), f"{count:,}")
    click.echo(f"{sum(one.events for one in found):,} events wait in {folder}")
    print_table(files)
    if topics.rows:
        print_table(topics)


def _state(one: FileStatus) -> Text:
    if one.set_aside:
        return Text(f"{one.problem}", "red")
    if one.problem:
        return Text(f"cannot be read: {one.problem}", "red")
    if one.in_use:
        return Text("in use by a living process", "green")
    if one.parked:
        return Text(f"{one.parked:,} not taken by their topic", "red")
    return Text("free", "yellow" if one.events else "dim")
