"""Where commands get their settings from, and how they print: the same for all of them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest
from cli.conftest import json_lines
from messages import SUCCESS, report
from servers import free_port

from receiver.environment import read_env_file
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.fixture
def event(cli_redis: Redis) -> str:
    """Return an event in the stream, whose message id is longer than a terminal is wide."""
    data = {**report(), "event_type": "sms_success_event", "message_id": _ID, "mobile": "13800138000"}
    source = {"source": "/tencent/default", "receivedtime": "2026-11-21T11:32:25.123Z"}
    event = json.dumps({"type": "sms_success_event", **source, "data": {**data, "description": "d" * 200}})
    cli_redis.xadd(SUCCESS, {"data": event})
    reasons = {"reasons": ["r" * 300], "item": "{}"}
    rejected = json.dumps({"type": "sms_rejected_event", **source, "data": reasons})
    cli_redis.xadd("urn:smn:local:default:quarantine", {"data": rejected}, id="1995258820220-1234567890123456789")
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
        (("quarantine", "list"), "1995258820220-1234567890123456789"),
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
