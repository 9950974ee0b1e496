"""Where commands get their settings from, and how they print: the same for all of them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from cli.conftest import json_lines
from messages import QUARANTINE, SUCCESS, report
from servers import free_port

from receiver.chaos.ack_log import AckLog
from receiver.chaos.comparison import Comparison
from receiver.chaos.run import RunOutcome
from receiver.chaos.summary import RunSummary
from receiver.cli import receiver
from receiver.environment import read_env_file
from receiver.errors import SettingsError
from receiver.events import EnvelopeBuilder, Event, EventType
from receiver.spool.directory import file_of
from receiver.spool.file import lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.conftest import Run
    from redis import Redis

_ID = "5000:" + "7" * 90
_READING = (
    ("tail", "--count", "1", "--from-start"),
    ("quarantine", "list"),
    ("routes",),
    ("url",),
    ("spool", "status"),
)
#: Commands that print no result of their own: they run until they are stopped, or write the events in any case.
_WITHOUT_JSON = {"serve", "index", "spool export"}
#: Members whose names are data (topics, answers, percentiles), or those of events and of SMN's reports.
_OF_DATA = {"topics", "answers", "latency_ms", "event", "report"}
_ENTRY = "1995258820220-1234567890123456789"
#: Each command, with arguments that make it print something. The order matters: some change what is there.
_PRINTING = {
    "tail": "--from-start --count 2",
    "find": "m1",
    "url": "",
    "check": "",
    "routes": "",
    "groups": "",
    "groups claim": "billing --to host-1 --min-idle 0s",
    "groups dead-letter": "billing --deliveries 1 --min-idle 0s --yes",
    "groups create": "crm --from-start --all-topics",
    "replay": "--topic sms_success --from start --rate 1000000 --yes",
    "dead-letters list": "",
    "dead-letters drop": "--topic sms_success --all --yes",
    "quarantine list": "",
    "quarantine show": _ENTRY,
    "quarantine retry": f"{_ENTRY} 1-1",
    "quarantine drop": f"{_ENTRY} 1-1 --yes",
    "spool status": "",
    "spool drain": "",
    "index rebuild": "",
    "index drop": "--yes",
    "simulate": "--count 1 --retries 0 --url",
}


@pytest.fixture
def event(cli_redis: Redis) -> str:
    """Return an event in the stream, whose message id is longer than a terminal is wide."""
    data = {**report(), "event_type": "sms_success_event", "message_id": _ID, "mobile": "13800138000"}
    source = {"source": "/tencent/default", "receivedtime": "2026-11-21T11:32:25.123Z"}
    event = json.dumps({"type": "sms_success_event", **source, "data": {**data, "description": "d" * 200}})
    cli_redis.xadd(SUCCESS, {"data": event})
    reasons = {"reasons": ["r" * 300], "item": "{}"}
    rejected = json.dumps({"type": "sms_rejected_event", **source, "data": reasons})
    cli_redis.xadd(QUARANTINE, {"data": rejected}, id=_ENTRY)
    return event


def test_an_env_file_is_read_as_systemd_and_docker_do(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    lines = (
        "# a comment",
        "; another",
        "",
        "A=1",
        'B="x y"',
        "C='a\"b'",
        "D=p$q#r",
        "E=",
        "export F=2",
        "OF_THE_SHELL",
    )
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_env_file(path) == {"A": "1", "B": "x y", "C": 'a"b', "D": "p$q#r", "E": "", "F": "2"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A=1\nREDIS_URL: redis\n", "line 2: is not a line such as"),
        (b"A=\xff", "it is not text"),
        (None, "No such file"),
    ],
)
def test_a_mistake_in_an_env_file_is_told_with_its_place(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "environment"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=problem) as caught:
        read_env_file(path)
    assert str(caught.value).startswith(f"--env-file {path}")


@pytest.mark.usefixtures("event")
@pytest.mark.parametrize("command", _READING)
def test_a_command_that_only_reads_needs_no_secret(run_here: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    """The shell of an operator has none, and the files of secrets are not for him."""
    config = tmp_path / "receiver.toml"
    config.write_text("""
        [projects.default]
        callback_keys = ["env:NOT_SET", "file:/run/secrets/not-for-us"]
        users = {lookup = "env:NOT_SET"}
        [projects.default.providers]
        telnyx = {public_keys = ["file:/run/secrets/not-for-us"]}
    """)
    (tmp_path / "data" / "spool").mkdir(parents=True)
    result = run_here(*command, RECEIVER_CONFIG=str(config), RECEIVER_HOST="0.0.0.0")
    assert result.returncode == 0, result.stderr
    refused = run_here("simulate", "--count", "1", RECEIVER_CONFIG=str(config), RECEIVER_HOST="0.0.0.0")
    assert "NOT_SET is not set" in refused.stderr


def test_the_env_file_replaces_the_environment_and_the_option_both(
    run_here: Run, tmp_path: Path, environ: dict[str, str]
) -> None:
    path = tmp_path / "environment"
    path.write_text(
        f"RECEIVER_DATA_DIR={tmp_path / 'of-the-file'}\nREDIS_URL={environ['REDIS_URL']}\n", encoding="utf-8"
    )
    shell = {"REDIS_URL": "redis://127.0.0.1:1/0", "RECEIVER_DATA_DIR": "of-the-shell"}
    assert f"{tmp_path / 'of-the-file'}" in run_here("spool", "status", "--env-file", str(path), **shell).stderr
    option = ("--data-dir", str(tmp_path / "of-the-option"))
    assert f"{tmp_path / 'of-the-option'}" in run_here("spool", "status", "--env-file", str(path), *option).stderr
    assert run_here("url", "--env-file", str(path), **shell).stdout == f"{environ['REDIS_URL']}\n"
    assert run_here("url", RECEIVER_ENV_FILE=str(path), **shell).stdout == f"{environ['REDIS_URL']}\n"
    missing = run_here("url", RECEIVER_ENV_FILE=str(tmp_path / "none")).stderr
    assert missing.startswith(f"RECEIVER_ENV_FILE {tmp_path / 'none'}: No such file")


@pytest.mark.parametrize("command", [one for one in _READING if one[0] != "spool"])
def test_a_folder_without_a_valkey_is_named_and_not_made(
    run_here: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    folder = tmp_path / "elsewhere"
    result = run_here(*command, "--data-dir", str(folder), REDIS_URL="", RECEIVER_EMBEDDED_PORT=str(free_port()))
    assert result.returncode == 2
    assert f"there is no embedded Valkey in {folder}. Run this in the folder of `receiver serve`" in result.stderr
    assert not folder.exists()


def test_piped_output_has_no_width(run_here: Run, event: str) -> None:
    """Other programs read whole lines."""
    narrow = {"COLUMNS": "20"}
    shown = run_here("tail", "--count", "1", "--from-start", **narrow).stdout
    assert _ID in shown
    assert "d" * 200 in shown
    assert "r" * 300 in run_here("quarantine", "list", **narrow).stdout
    assert json_lines(run_here("tail", "--count", "1", "--from-start", "--json", **narrow)) == [json.loads(event)]
    assert all(len(line) == len(line.rstrip()) for line in run_here("routes", **narrow).stdout.splitlines())


@pytest.mark.usefixtures("event")
@pytest.mark.parametrize(
    ("command", "whole"),
    [
        (("tail", "--count", "1", "--from-start"), _ID),
        (("quarantine", "list"), _ENTRY),
        (("routes",), "urn:smn:local:default:sms_success"),
    ],
)
def test_a_narrow_terminal_cuts_no_id(environ: dict[str, str], command: tuple[str, ...], whole: str) -> None:
    """And shortens texts, so that an event is one row where its ids leave room."""
    reading, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    own = {name: value for name, value in environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-m", "receiver", *command], stdout=terminal, env=own)
    os.close(terminal)
    printed = b""
    try:
        while part := os.read(reading, 65536):
            printed += part
    except OSError:  # the command has ended, and closed the terminal
        pass
    os.close(reading)
    assert process.wait(60) == 0
    assert whole in printed.decode()
    assert b"dddd" not in printed


def _commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield f"{path}{name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path}{name} ")


def _breaches(row: Any, names: set[str]) -> Iterator[str]:
    """Yield what in a JSON object is against the rule."""
    for name, value in row.items():
        if name not in names:
            yield f"{name} is none of the documented names"
        if name.endswith("_time") and value is not None and not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]{8,12}Z", value):
            yield f"{name} is {value}, no time in UTC"
        if name in {"entries", "events", "keys", "pending", "deliveries"} and not isinstance(value, int | None):
            yield f"{name} is {value!r}, no number"
        if value in ("", "?"):
            yield f"{name} is {value!r}, not null"
        if isinstance(value, dict) and name not in _OF_DATA:
            yield from _breaches(value, names)
        for one in value if isinstance(value, list) else ():
            if isinstance(one, dict):
                yield from _breaches(one, names)


def test_what_every_command_prints_as_json_keeps_the_documented_rule(
    cli_redis: Redis, event: str, run_here: Run, environ: dict[str, str]
) -> None:
    """A line is an object with the same members, of documented names, also about entries that are nobody's events."""
    document = (Path(__file__).parents[2] / "deploy" / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([a-z][a-z0-9_]+)`", document.partition("- **Names.**")[2].partition("\n\n")[0]))
    commands = dict(_commands(receiver))
    printing = {name for name, command in commands.items() if any(one.name == "as_json" for one in command.params)}
    assert set(commands) - printing == _WITHOUT_JSON
    assert printing == {*_PRINTING, "prove"}
    builder = EnvelopeBuilder("tencent", "default")
    entries = [builder.build(Event(EventType.SUCCESS, None, b'{"message_id":"m%d"}' % n), SUCCESS, 1) for n in (1, 2)]
    cli_redis.xgroup_create(SUCCESS, "billing", "0")
    for data in ("no event", json.dumps(json.loads(entries[0].data), indent=1), "null"):
        cli_redis.xadd(SUCCESS, {"data": data})
        cli_redis.xadd(f"{SUCCESS}_dead", {"data": data})
    cli_redis.xreadgroup("billing", "host-2", {SUCCESS: ">"}, count=2)
    folder = Path(environ["RECEIVER_DATA_DIR"]) / "spool"
    folder.mkdir(parents=True)
    spool_file = lock_file(file_of(folder, 0), 1 << 20)
    assert spool_file is not None
    spool_file.add(entries[1:])
    spool_file.close()
    events = [json.loads(event), json.loads(entries[0].data)]
    for name, arguments in _PRINTING.items():
        url = [f"http://127.0.0.1:{free_port()}"] if name == "simulate" else []
        result = run_here(*name.split(), *arguments.split(), *url, "--json")
        rows = json_lines(result)
        assert result.returncode in {0, 1}, (name, result.stderr)
        assert rows, (name, result.stderr)
        if name == "tail":
            assert rows == events
            continue
        assert len({tuple(row) for row in rows}) == 1, name
        assert [*{breach for row in rows for breach in _breaches(row, names)}] == [], name
    outcome = RunOutcome(AckLog(), Comparison([], [], 0, 3), settled=True, seconds=1.0)
    assert [*_breaches(RunSummary(outcome, seed=0).values(), names)] == [], "prove"
    refused = run_here("groups", "--json", "claim", "billing", "--to", "host-1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "write the options behind claim" in refused.stderr
