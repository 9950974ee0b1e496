"""The embedded Valkey: kept over restarts and crashes, never shared by accident, and clear about what is in its way."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from messages import OK, SUCCESS, body, report
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from servers import Receiver, eventually, free_port

from receiver.embedded import EmbeddedValkey
from receiver.errors import EmbeddedError
from receiver.log import configure

NO_RETRY = Retry(NoBackoff(), 0)


@pytest.fixture
def logger():
    """Return the service's logger."""
    return configure("warning")


@pytest.fixture
def embedded(tmp_path, logger):
    """Return a function that makes an embedded Valkey in a folder; those that were started are stopped."""
    made = []

    def make(folder="valkey", port=None):
        made.append(EmbeddedValkey(tmp_path / folder, port or free_port(), logger))
        return made[-1]

    yield make
    for valkey in made:
        if answers(valkey):
            valkey.stop()


def answers(valkey):
    """Tell whether it answers."""
    try:
        with Redis.from_url(valkey.url, retry=NO_RETRY) as client:
            return client.ping()
    except RedisConnectionError:
        return False


def pid(valkey):
    """Return its process id."""
    with Redis.from_url(valkey.url, retry=NO_RETRY) as client:
        return client.info("server")["process_id"]


def test_it_is_durable_never_evicts_and_listens_on_loopback_alone(embedded):
    """The guarantees stand on that."""
    valkey = embedded()
    valkey.start()
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
        "bind": "127.0.0.1",
    }
    with Redis.from_url(valkey.url, retry=NO_RETRY, decode_responses=True) as client:
        assert client.config_get(*wanted) == wanted


def test_data_outlive_a_stop_and_a_kill(embedded):
    """What was acknowledged is there at the next start."""
    for number in range(3):
        valkey = embedded(port=None)
        valkey.start()
        with Redis.from_url(valkey.url, retry=NO_RETRY) as client:
            assert client.xlen("s") == number
            client.xadd("s", {"data": number})
        if number:
            os.kill(pid(valkey), signal.SIGKILL)
            valkey._process.wait()  # noqa: SLF001 it is our child
        else:
            valkey.stop()
        assert not answers(valkey)
        valkey._lock.close()  # noqa: SLF001 as the end of the process does


def test_one_that_a_killed_service_left_behind_is_taken_over(embedded):
    """It goes on to run, with all that it holds, and is stopped by the new service."""
    first = embedded()
    first.start()
    left = pid(first)
    first._lock.close()  # noqa: SLF001 as kill -9 does
    second = embedded(port=int(first.url.split(":")[2].split("/")[0]))
    second.start()
    assert pid(second) == left
    second.stop()
    first._process.wait()  # noqa: SLF001 it is our child
    assert not answers(second)


def test_a_port_that_another_program_has_is_told_with_the_mend(embedded):
    """Whether it speaks Redis or not."""
    first = embedded()
    first.start()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (int(first.url.split(":")[2].split("/")[0]), other.getsockname()[1]):
            with pytest.raises(EmbeddedError, match="RECEIVER_EMBEDDED_PORT"):
                embedded(f"other{port}", port).start()


def test_a_folder_that_cannot_be_is_told_with_the_mend(embedded, tmp_path):
    """Before anything is started."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EmbeddedError, match="RECEIVER_DATA_DIR"):
        embedded("file/valkey").start()


def test_data_that_it_cannot_read_are_told_in_its_own_words(embedded, tmp_path):
    """And not removed."""
    folder = tmp_path / "valkey" / "appendonlydir"
    folder.mkdir(parents=True)
    manifest = folder / "appendonly.aof.manifest"
    manifest.write_text("nonsense")
    with pytest.raises(EmbeddedError, match="ended at once"):
        embedded().start()
    assert manifest.read_text() == "nonsense"


@pytest.fixture
def alone(tmp_path):
    """Start the service without a Redis of its own, always in the same folder and on the same ports."""
    started = []
    environ = {"RECEIVER_EMBEDDED_PORT": str(free_port())}

    def start(*, wait=True, folder="alone", **more):
        started.append(Receiver(tmp_path / folder, {**environ, **more}, wait=wait))
        return started[-1]

    yield start
    for process in started:
        process.stop()
    for left in holders(tmp_path):
        os.kill(left, signal.SIGKILL)


def holders(folder):
    """Return the processes that have a file below a folder open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink().is_relative_to(folder):
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


@pytest.mark.parametrize("index", ["0", "1"], ids=["without the index", "with the index"])
def test_the_service_starts_its_own_says_where_and_keeps_its_events(alone, index):
    """Over a stop, and over a kill of the service alone."""
    for number, end in enumerate((Receiver.stop, Receiver.kill, Receiver.stop)):
        process = alone(RECEIVER_INDEX=index)
        assert process.post(body([report(f"5000:{number}")])) == (200, OK)
        lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
        url = next(line["url"] for line in reversed(lines) if line["event"].startswith("embedded."))
        with Redis.from_url(url, retry=NO_RETRY) as client:
            assert client.xlen(SUCCESS) == number + 1
        end(process)
    with Redis.from_url(url, retry=NO_RETRY) as client, pytest.raises(RedisConnectionError):
        client.ping()


def test_two_services_do_not_share_a_folder(alone):
    """On the same port or another, the second ends with one sentence; the first one is not disturbed."""
    first = alone()
    for port in ({}, {"RECEIVER_EMBEDDED_PORT": str(free_port())}):
        second = alone(wait=False, **port)
        eventually(lambda: not second.alive, "the second has ended")  # noqa: B023 awaited in the loop
        assert second.process.returncode == 2
        assert "RECEIVER_DATA_DIR" in second.output
        assert "Traceback" not in second.output
    assert first.post(body([report()])) == (200, OK)
