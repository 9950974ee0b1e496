"""The embedded Valkey: kept over restarts and crashes, never shared by accident, and clear about what is in its way."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from messages import OK, SUCCESS, body, report
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry
from servers import Receiver, eventually, free_port

from receiver.embedded import EmbeddedValkey, consumer_url
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


def never():
    """Tell that nobody gives up."""
    return False


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
    valkey.start(never)
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
        valkey.start(never)
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
    first.start(never)
    left = pid(first)
    first._lock.close()  # noqa: SLF001 as kill -9 does
    second = embedded(port=first.port)
    second.start(never)
    assert pid(second) == left
    second.stop()
    first._process.wait()  # noqa: SLF001 it is our child
    assert not answers(second)


def test_a_port_that_another_program_has_is_told_with_the_mend(embedded):
    """Whether it speaks Redis or not."""
    first = embedded()
    first.start(never)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (first.port, other.getsockname()[1]):
            with pytest.raises(EmbeddedError, match="RECEIVER_EMBEDDED_PORT"):
                embedded(f"other{port}", port).start(never)


def test_a_folder_that_cannot_be_is_told_with_the_mend(embedded, tmp_path):
    """Before anything is started."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EmbeddedError, match="RECEIVER_DATA_DIR"):
        embedded("file/valkey").start(never)


def test_data_that_it_cannot_read_are_told_in_its_own_words(embedded, tmp_path):
    """And not removed."""
    folder = tmp_path / "valkey" / "appendonlydir"
    folder.mkdir(parents=True)
    manifest = folder / "appendonly.aof.manifest"
    manifest.write_text("nonsense")
    with pytest.raises(EmbeddedError, match="ended at once"):
        embedded().start(never)
    assert manifest.read_text() == "nonsense"


def test_one_that_was_left_behind_follows_to_another_port(embedded, short):
    """A second one would write to the same files."""
    first = embedded(short / "valkey")
    first.start(never)
    left = pid(first)
    first._lock.close()  # noqa: SLF001 as kill -9 does
    second = embedded(short / "valkey", port=free_port())
    second.start(never)
    assert pid(second) == left
    with Redis.from_url(consumer_url(second.folder, second.port), retry=NO_RETRY) as client:
        assert client.info("server")["process_id"] == left


def test_one_that_was_left_behind_and_does_not_answer_is_not_joined_by_a_second(embedded, short):
    """On another port nothing else would keep the two apart."""
    first = embedded(short / "valkey")
    first.start(never)
    left = pid(first)
    first._lock.close()  # noqa: SLF001 as kill -9 does
    os.kill(left, signal.SIGSTOP)
    with pytest.raises(EmbeddedError, match=f"its process id is {left}"):
        embedded(short / "valkey", port=free_port()).start(never)
    os.kill(left, signal.SIGCONT)


def test_one_that_is_frozen_is_killed_in_time(embedded):
    """What it has acknowledged is on the disk."""
    valkey = embedded()
    valkey.start(never)
    os.kill(pid(valkey), signal.SIGSTOP)
    valkey.stop(0.5)
    assert valkey._process.returncode == -signal.SIGKILL  # noqa: SLF001 it is our child
    valkey._lock.close()  # noqa: SLF001 as the end of the process does
    again = embedded()
    again.start(never)
    assert answers(again)


def test_one_that_was_adopted_and_is_frozen_is_killed_in_time(embedded):
    """It is no child of the service that stops it."""
    first = embedded()
    first.start(never)
    first._lock.close()  # noqa: SLF001 as kill -9 does
    second = embedded(port=first.port)
    second.start(never)
    os.kill(pid(second), signal.SIGSTOP)
    second.stop(0.5)
    assert first._process.wait(5) == -signal.SIGKILL  # noqa: SLF001 it is our child


@pytest.mark.parametrize("name", ['a b "c" \\d', "é ☃", "l" * 120], ids=["quotes", "letters", "too long for a socket"])
def test_a_folder_may_have_any_name(embedded, short, name):
    """Its path goes through a file of configuration and a URL."""
    valkey = embedded(short / name / "valkey")
    valkey.start(never)
    with Redis.from_url(valkey.url, retry=NO_RETRY, decode_responses=True) as client:
        assert client.config_get("dir") == {"dir": str(valkey.folder)}
    valkey.stop()
    assert not answers(valkey)


@pytest.fixture
def short():
    """Return a folder whose path leaves room for a socket; those of pytest are too long.

    It goes before ``embedded`` does, which then finds no socket: who still uses the folder is ended here.
    """
    with tempfile.TemporaryDirectory(prefix="receiver") as name:
        yield Path(name)
        for left in holders(Path(name)):
            os.kill(left, signal.SIGKILL)


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


def url_of(process):
    """Return the URL that the service says its Valkey has, with the password that `receiver url` adds."""
    lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    said = next(line["url"] for line in reversed(lines) if line["event"] in ("embedded.started", "embedded.adopted"))
    url = consumer_url(process.log.parent / "data" / "valkey", int(said.rpartition(":")[2].removesuffix("/0")))
    assert said == url.replace(urlsplit(url).password, "[redacted]")
    return url


@pytest.mark.parametrize("index", ["0", "1"], ids=["without the index", "with the index"])
def test_the_service_starts_its_own_says_where_and_keeps_its_events(alone, index):
    """Over a stop, and over a kill of the service alone."""
    for number, end in enumerate((Receiver.stop, Receiver.kill, Receiver.stop)):
        process = alone(RECEIVER_INDEX=index)
        assert process.post(body([report(f"5000:{number}")])) == (200, OK)
        url = url_of(process)
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
        assert second.process.wait(5) == 2
        assert "RECEIVER_DATA_DIR" in second.output
        assert "Traceback" not in second.output
    assert first.post(body([report()])) == (200, OK)


def entries(url):
    """Return the number of events in the stream, 0 while there is no Valkey."""
    try:
        with Redis.from_url(url, retry=NO_RETRY) as client:
            return client.xlen(SUCCESS)
    except RedisError:
        return 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_that_ends_is_started_again(alone, workers):
    """As often as it does; what came meanwhile is in it then, and nobody was turned away."""
    process = alone(RECEIVER_WORKERS=workers)
    url = url_of(process)
    for number in range(1, 4):
        with Redis.from_url(url, retry=NO_RETRY) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        assert process.post(body([report(f"5000:{number}")])) == (200, OK)
        eventually(lambda: entries(url) == number, "the event is in the stream", 20)  # noqa: B023 awaited in the loop
    ended = [json.loads(line) for line in process.output.splitlines() if '"embedded.ended"' in line]
    assert [line["level"] for line in ended] == ["error"] * 3
    assert process.stop() == 0
    assert process.output.count("embedded.ended") == 3
    with Redis.from_url(url, retry=NO_RETRY) as client, pytest.raises(RedisConnectionError):
        client.ping()


def test_one_that_was_taken_over_is_started_again_too(alone):
    """It is no child of ours."""
    alone().kill()
    process = alone()
    with Redis.from_url(url_of(process), retry=NO_RETRY) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    eventually(lambda: process.output.count("embedded.ended") == 1, "it is missed")
    assert process.post(body([report()])) == (200, OK)
    eventually(lambda: entries(url_of(process)) == 1, "the event is in the stream", 20)


def test_one_that_ends_at_once_is_tried_less_and_less_often(alone, tmp_path):
    """Its data cannot be read, say."""
    process = alone()
    with Redis.from_url(url_of(process), retry=NO_RETRY) as client:
        (tmp_path / "alone/data/valkey/appendonlydir/appendonly.aof.manifest").write_text("nonsense")
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    eventually(lambda: process.output.count("embedded.ended") == 3, "it is started twice", 20)
    said = [json.loads(line) for line in process.output.splitlines() if '"embedded.ended"' in line]
    first, second, third = (datetime.fromisoformat(line["timestamp"]) for line in said)
    assert third - second > (second - first) * 1.3
    assert process.post(body([report()])) == (200, OK)
    assert process.stop() == 0


@pytest.mark.parametrize(
    ("workers", "number", "moment"),
    [
        ("1", signal.SIGTERM, "valkey.log"),
        ("1", signal.SIGINT, "appendonlydir"),
        ("2", signal.SIGTERM, "appendonlydir"),
        ("2", signal.SIGINT, "valkey.log"),
    ],
)
def test_a_signal_that_comes_early_leaves_nothing_behind(alone, tmp_path, workers, number, moment):
    """Its Valkey runs already, or just not yet; the service does not."""
    process = alone(wait=False, RECEIVER_WORKERS=workers)
    eventually((tmp_path / "alone/data/valkey" / moment).exists, "its Valkey is started", 20)
    process.signal(number)
    assert process.process.wait(20) == 0
    assert "Traceback" not in process.output
    assert "Aborted" not in process.output
    assert holders(tmp_path) == set()


def test_the_valkey_of_another_is_not_stopped(embedded):
    """Not by a service that could not have its port."""
    first = embedded()
    first.start(never)
    second = embedded("other", first.port)
    with pytest.raises(EmbeddedError):
        second.start(never)
    second.stop()
    assert answers(first)
