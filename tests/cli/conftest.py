"""The commands as a person runs them: processes of their own, against a real Valkey and a real service."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import commands
import pytest
from click.testing import CliRunner
from redis import Redis
from servers import Receiver, RedisServer

from receiver.cli import receiver
from receiver.embedded import valkey_binary
from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from collections.abc import Iterator

Result = subprocess.CompletedProcess[str]


def json_lines(result: Result) -> list[Any]:
    """Return what a command has printed with ``--json``: an object a line."""
    return [json.loads(line) for line in result.stdout.splitlines()]


class Run(Protocol):
    """Runs ``receiver …`` to its end."""

    def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> Result:
        """Return what it printed and its exit code; a traceback fails the test."""


class Start(Protocol):
    """Starts ``receiver …`` and leaves it running."""

    def __call__(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Return the process."""


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(valkey_binary(), tmp_path_factory.mktemp("cli-valkey"), maxmemory="256mb")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _service(_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    service = Receiver(tmp_path_factory.mktemp("cli-service"), {"REDIS_URL": _server.url})
    yield service
    service.stop()


@pytest.fixture
def cli_redis(_server: RedisServer) -> Iterator[Redis]:
    """Return a client of a Valkey that is empty, on a port of its own."""
    with Redis.from_url(_server.url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def service(_service: Receiver, cli_redis: Redis) -> Receiver:
    """Return a running service whose Redis is empty."""
    assert cli_redis.dbsize() == 0
    return _service


@pytest.fixture
def environ(_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    """Return the environment of the commands."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_START") if name in os.environ}
    own = {"REDIS_URL": _server.url, "RECEIVER_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "80", "TZ": "UTC"}
    return {**kept, **own}


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """Run a command to its end."""

    def to_its_end(*arguments: str, stdin: str = "", **more: str) -> Result:
        result = commands.run(arguments, environ | more, Path.cwd(), stdin)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return to_its_end


@pytest.fixture
def run_here(environ: dict[str, str]) -> Iterator[Run]:
    """Run a command in this process, for speed: its I/O is as real."""
    handlers = list(logging.getLogger().handlers)

    def to_its_end(*arguments: str, stdin: str = "", **more: str) -> Result:
        result = CliRunner().invoke(receiver, arguments, input=stdin, env=environ | more)
        if isinstance(result.exception, ReceiverError):  # what main() does with it, test_help tests
            return Result(arguments, 2, result.stdout, f"{result.exception}\n")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Result(arguments, result.exit_code, result.stdout, result.stderr)

    yield to_its_end
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def start(environ: dict[str, str]) -> Iterator[Start]:
    """Start a command that does not end by itself."""
    started: list[subprocess.Popen[str]] = []

    def running(*arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "receiver", *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environ | more, stdout=pipe, stderr=pipe, text=True, bufsize=1))
        return started[-1]

    yield running
    for process in started:
        process.kill()
        process.communicate()
