"""Other users of the machine: they cannot read the data folder, nor use the embedded Valkey."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
import commands
import pytest
from click.testing import CliRunner
from messages import OK, SUCCESS, body, report
from redis import Redis
from servers import Receiver, eventually, free_port

from receiver.cli import receiver
from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

GUIDE = Path(__file__).parent.parent / "deploy" / "consume.md"
CONSUMER = GUIDE.parent / "consumers" / "redis_consumer.py"
_NOBODY = 65534


def done_by_nobody(act: Callable[[], Iterable[str]]) -> list[str]:
    """Return the lines that another user gets: a child that gives its rights away acts, and writes them to a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            os.write(writing, "\n".join(act()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read().splitlines()
    os.waitpid(child, 0)
    return found


def tried(paths: list[Path], port: int) -> Iterator[str]:
    """Try to open all files, and to use the Valkey on its port and on its socket; yield what is not refused."""
    for path in paths:
        with suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            yield f"opened {path}"
    places = [(socket.AF_INET, ("127.0.0.1", port))]
    places += [(socket.AF_UNIX, str(path)) for path in paths if path.name == "valkey.sock"]
    for family, address in places:
        for command in (b"FLUSHALL", b"CONFIG SET appendfsync no", b"SCAN 0", b"SHUTDOWN NOSAVE"):
            with suppress(OSError), socket.socket(family) as client:
                client.settimeout(5)
                client.connect(address)
                client.sendall(command + b"\r\n")
                answer = client.recv(100)
                if not answer.startswith(b"-NOAUTH"):
                    yield f"{command!r}: {answer!r}"


@contextmanager
def entered_by_all() -> Iterator[Path]:
    """Make a folder that other users can enter, and that leaves room for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="receiver") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextmanager
def starting_in(place: Path) -> Iterator[Callable[..., Receiver]]:
    """Give a function that starts services with an embedded Valkey in a folder, whatever the umask."""
    started = []
    port = str(free_port())

    def start(*, wait: bool = True, **environ: str) -> Receiver:
        before = os.umask(0)
        try:
            own = {"RECEIVER_EMBEDDED_PORT": port, **environ}
            started.append(Receiver(place, own, wait=wait))
        finally:
            os.umask(before)
        return started[-1]

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def place() -> Iterator[Path]:
    """Return the folder of a service that one test changes or stops."""
    with entered_by_all() as path:
        yield path


@pytest.fixture
def lone(place: Path) -> Iterator[Callable[..., Receiver]]:
    """Start services in that folder."""
    with starting_in(place) as start:
        yield start


@pytest.fixture(scope="module")
def shared() -> Iterator[Receiver]:
    """Return one service, in a folder of its own, for the tests that only look at it or use its Valkey."""
    with entered_by_all() as path, starting_in(path) as start:
        yield start()


def folder_of(service: Receiver) -> Path:
    """Return the folder in which a service was started."""
    return service.log.parent


def loose(folder: Path) -> list[Path]:
    """Return what other users have rights to, a folder and everything below."""
    return [path for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o077]


def said(service: Receiver, event: str) -> list[dict[str, str]]:
    """Return the log lines of an event."""
    return [json.loads(line) for line in service.output.splitlines() if f'"event": "{event}"' in line]


def embedded_port(service: Receiver) -> int:
    """Return the port of its Valkey, by its own word."""
    return int(said(service, "embedded.started")[-1]["url"].rpartition(":")[2].removesuffix("/0"))


def url(place: Path, port: int) -> str:
    """Return what ``receiver url`` prints there."""
    environ = {"RECEIVER_EMBEDDED_PORT": str(port), "RECEIVER_DATA_DIR": "data"}
    done = commands.run(["url"], environ, place)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_the_service_creates_is_private_whatever_the_umask(
    lone: Callable[..., Receiver], place: Path, workers: str
) -> None:
    service = lone(RECEIVER_WORKERS=workers, RECEIVER_INDEX="1")
    assert service.post(body([report()])) == (200, OK)
    eventually(lambda: said(service, "indexer.started"), "the index runs")
    files = {path.name for path in (place / "data").rglob("*")}
    assert {"000.sqlite", "000.sqlite-wal", "000.sqlite-shm", "000.lock", "valkey.log", "index.lock"} <= files
    assert {"appendonly.aof.manifest", "valkey.sock", "password"} <= files
    assert loose(place / "data") == []
    assert said(service, "data.made_private") == []


def test_what_an_earlier_version_has_left_is_made_private_and_told(
    lone: Callable[..., Receiver], place: Path, tmp_path: Path
) -> None:
    assert lone().stop() == 0
    linked = tmp_path / "elsewhere"
    linked.touch(0o644)
    (place / "data" / "spool" / "link").symlink_to(linked)
    opened = [path for path in (place / "data", *(place / "data").rglob("*")) if not path.is_symlink()]
    for path in opened:
        path.chmod(0o755 if path.is_dir() else 0o644)
    service = lone()
    assert loose(place / "data") == [place / "data" / "spool" / "link"]
    assert linked.stat().st_mode & 0o777 == 0o644
    [line] = said(service, "data.made_private")
    assert line["count"] == len(opened)


def test_a_folder_that_holds_other_things_keeps_its_mode(lone: Callable[..., Receiver], place: Path) -> None:
    data = place / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "of somebody else").touch(0o644)
    lone()
    assert sorted(path.name for path in loose(data)) == ["data", "of somebody else"]


def test_a_folder_for_all_users_keeps_its_mode(lone: Callable[..., Receiver], place: Path) -> None:
    data = place / "data"
    data.mkdir()
    data.chmod(0o1777)
    lone()
    assert loose(data) == [data]
    assert stat.S_IMODE(data.stat().st_mode) == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_that_another_user_has_made_there_is_refused(lone: Callable[..., Receiver], place: Path) -> None:
    data = place / "data"
    data.mkdir()
    data.chmod(0o1777)
    (data / "spool").mkdir()
    os.chown(data / "spool", _NOBODY, _NOBODY)
    service = lone(wait=False)
    assert service.process.wait(20) == 2
    assert "belongs to another user (65534)" in service.output
    assert "Traceback" not in service.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_reads_nothing_and_cannot_use_the_valkey(shared: Receiver) -> None:
    place = folder_of(shared)
    assert shared.post(body([report("5000:kept")])) == (200, OK)
    port, paths = embedded_port(shared), [place / "data", *(place / "data").rglob("*")]
    assert done_by_nobody(lambda: tried(paths, port)) == []
    with Redis.from_url(url(place, port), decode_responses=True) as client:
        assert any("5000:kept" in fields["data"] for _, fields in client.xrange(SUCCESS))
        assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_the_password_is_neither_in_a_log_nor_in_arguments(lone: Callable[..., Receiver], place: Path) -> None:
    service = lone(RECEIVER_LOG_LEVEL="debug", RECEIVER_WORKERS="2", RECEIVER_INDEX="1")
    eventually(lambda: said(service, "indexer.started"), "the index runs")
    password = (place / "data" / "valkey" / "password").read_text().strip()
    assert len(password) >= 40
    assert password not in service.output
    assert password not in (place / "data" / "valkey" / "valkey.log").read_text()
    arguments = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(password.encode() in one for one in arguments)


def test_a_password_stays_and_a_removed_one_is_made_anew(lone: Callable[..., Receiver], place: Path) -> None:
    service = lone()
    port = embedded_port(service)
    assert service.post(body([report()])) == (200, OK)
    first = url(place, port)
    service.stop()
    lone().stop()
    assert url(place, port) == first
    (place / "data" / "valkey" / "password").unlink()
    lone()
    assert url(place, port) != first
    with Redis.from_url(url(place, port)) as client:
        assert client.xlen(SUCCESS) == 1


def test_the_consumer_of_the_guide_reads_the_embedded_valkey(shared: Receiver) -> None:
    """With the URL that the guide gives it, which holds the password."""
    place, port = folder_of(shared), embedded_port(shared)
    with Redis.from_url(url(place, port)) as client:
        client.delete(SUCCESS)
    assert shared.post(body([report("5000:guide")])) == (200, OK)
    assert "export REDIS_URL=$(.venv/bin/receiver url)" in GUIDE.read_text(encoding="utf-8")
    database = place / "reports.sqlite"
    environ = {"REDIS_URL": url(place, port), "TOPICS": SUCCESS, "GROUP": "billing", "DATABASE": str(database)}
    with subprocess.Popen([sys.executable, str(CONSUMER)], cwd=place, env=environ) as consumer:
        try:
            eventually(lambda: stored(database) == ["5000:guide"], "the consumer stores the report")
        finally:
            consumer.terminate()
    assert consumer.returncode == 0


def stored(database: Path) -> list[str]:
    """Return the message ids that the consumer has stored."""
    with closing(sqlite3.connect(database)) as connection:
        try:
            return [row[0] for row in connection.execute("SELECT message_id FROM reports")]
        except sqlite3.OperationalError:  # there is no table yet
            return []


def test_commands_find_the_valkey_by_the_data_folder(shared: Receiver) -> None:
    """Elsewhere they say so, and where to run."""
    place, port = folder_of(shared), embedded_port(shared)
    environ = {"RECEIVER_EMBEDDED_PORT": str(port), "RECEIVER_DATA_DIR": "data", "PORT": str(free_port())}
    found = commands.run(["check", "--json"], environ, place)
    assert "script" in {finding["area"] for finding in map(json.loads, found.stdout.splitlines())}, found.stderr
    there = place / ("l" * 120)
    there.mkdir()
    found = commands.run(["quarantine", "list"], environ, there)
    assert found.returncode == 2
    assert f"there is no embedded Valkey in {there}/data. Run this in the folder of `receiver serve`" in found.stderr
    assert list(there.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("command", ["tail", "url", "spool status", "spool export", "quarantine list", "check"])
def test_commands_of_another_user_are_a_sentence(shared: Receiver, command: str) -> None:
    """What is not for them must not look empty."""
    data, port = folder_of(shared) / "data", embedded_port(shared)
    environ = {"RECEIVER_DATA_DIR": str(data), "RECEIVER_EMBEDDED_PORT": str(port), "REDIS_URL": ""}
    runner = CliRunner(env=environ | {"COLUMNS": "500"})
    for name in receiver.names:
        receiver.get_command(click.Context(receiver), name)  # another user may not be able to read our code

    def run() -> list[str]:
        result = runner.invoke(receiver, command.split())
        assert isinstance(result.exception, ReceiverError)  # which main() says, and nothing else
        return [str(result.exception), result.output]

    lines = done_by_nobody(run)
    assert "the user that runs `receiver serve`" in " ".join(lines)
