"""The consumers of deploy/ run as they stand: they lose nothing, count nothing twice, and put aside what fails."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from redis import Redis
from servers import Child, RedisServer, eventually, free_port

from receiver.embedded import valkey_binary

#: Each starts several processes, which takes a busy machine a while.
pytestmark = pytest.mark.timeout(120)
CONSUMERS = Path(__file__).parents[2] / "deploy" / "consumers"
GROUP = "billing"
EVENTS = 120
NUMBERS = count()


class Program:
    """One of the consumers, with its topics and what it has done."""

    def __init__(self, script, folder, url, **environ):
        """Remember how to start it."""
        self.script, self.folder, self.url, self.environ = script, folder, url, environ
        self.topic = f"urn:smn:local:default:consumed_{os.getpid()}_{next(NUMBERS)}"
        self.redis = Redis.from_url(url)
        self.started = []

    def use(self, url):
        """Take another Redis than that of all tests."""
        self.redis.close()
        self.url, self.redis = url, Redis.from_url(url)

    def start(self, consumer, **environ):
        """Start it under a name."""
        if self.script.endswith(".js"):
            command = [node(), str(CONSUMERS / self.script)]
        else:
            command = [sys.executable, str(CONSUMERS / self.script)]
        own = {
            "PATH": os.environ["PATH"], "REDIS_URL": self.url, "TOPICS": self.topic, "GROUP": GROUP,
            "CONSUMER": consumer, "CLAIM_AFTER": "0.3", "MAX_DELIVERIES": "2", **self.environ, **environ,
        }  # fmt: skip
        self.started.append(Child(command, self.folder / f"{len(self.started)}-{consumer}.log", own))
        return self.started[-1]

    def add(self, *ids):
        """Add events, as the receiver does."""
        with self.redis.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.xadd(
                    self.topic, {"data": json.dumps({"id": id_, "data": {"message_id": f"m-{id_}", "status": 1}})}
                )
            return pipe.execute()

    def done(self):
        """Return the ids of the events in the order in which the work on them was done."""
        if self.script == "redis_consumer.py":
            with closing(sqlite3.connect(self.folder / "reports.sqlite", timeout=10)) as database:
                if not database.execute("SELECT 1 FROM sqlite_schema").fetchall():
                    return []
                return [id_ for (id_,) in database.execute("SELECT event_id FROM reports ORDER BY rowid")]
        lines = "".join(child.output for child in self.started).splitlines()
        return [line.split()[0] for line in lines if line.endswith(" 1") and " m-" in line]

    def pending(self):
        """Return how many entries are delivered and not acknowledged."""
        return self.redis.xpending(self.topic, GROUP)["pending"]

    def finished(self):
        """Tell whether everything is read and acknowledged."""
        last = self.redis.xinfo_stream(self.topic)["last-generated-id"]
        groups = self.redis.xinfo_groups(self.topic)
        return [(group["pending"], group["last-delivered-id"]) for group in groups] == [(0, last)]


def node():
    """Return the path of Node, which has the consumer's packages."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed (Debian's package nodejs): its consumer is not run")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"node is {version.strip()}, ioredis needs 20: the consumer for Node is not run")
    if not (CONSUMERS / "node_modules" / "ioredis").exists():
        pytest.skip("ioredis is not installed (npm install in deploy/consumers): the consumer for Node is not run")
    return found


@pytest.fixture
def program(request, tmp_path, valkey):
    """Return a consumer with a topic of its own."""
    made = Program(request.param, tmp_path, valkey.url)
    yield made
    for child in made.started:
        child.kill()
    made.redis.close()


every_program = pytest.mark.parametrize(
    "program", ["redis_consumer.py", "faststream_consumer.py", "node_consumer.js"], indirect=True
)
#: FastStream reads no history: it claims its own entries like those of others.
programs_with_history = pytest.mark.parametrize("program", ["redis_consumer.py", "node_consumer.js"], indirect=True)


@every_program
def test_a_consumer_is_killed_another_is_stopped_and_each_event_is_handled_once(program):
    """The third finishes what the killed one held; SIGTERM leaves nothing behind."""
    ids = [f"{program.script}-{number}" for number in range(EVENTS)]  # marks are by group and id
    program.add(*ids, *ids[:5])  # five came again after the receiver's dedupe window
    killed = program.start("one", CLAIM_AFTER="2")

    def caught_at_work():
        assert killed.alive, killed.output
        if len(program.done()) == len(ids):  # it was too quick
            more = [f"{program.script}-{len(ids) + number}" for number in range(EVENTS)]
            program.add(*more)
            ids.extend(more)
        if len(program.done()) < 5 or not program.pending():
            return False
        killed.signal(signal.SIGSTOP)
        if program.pending():
            return True
        killed.signal(signal.SIGCONT)
        return False

    eventually(caught_at_work, "the first consumer is stopped at work", 20)
    killed.kill()
    held = program.pending()
    assert held
    stopped = program.start("two", CLAIM_AFTER="2")
    before = len(program.done())
    eventually(lambda: len(program.done()) > before, "the second consumer works", 20)
    assert stopped.stop() == 0, stopped.output
    if program.script != "faststream_consumer.py":  # which may leave what it was just given to others
        assert program.redis.xpending_range(program.topic, GROUP, "-", "+", 10, consumername="two") == []
    third = program.start("three", CLAIM_AFTER="2")
    eventually(program.finished, "all is read and acknowledged", 40)
    assert third.stop() == 0, third.output
    done = program.done()
    assert set(done) == set(ids)
    assert len(done) - len(ids) <= 1  # the mark of what the killed one had just done may be missing


@every_program
def test_poison_goes_to_the_dead_letters_with_the_reason_and_is_acknowledged(program):
    """Not JSON, without what the work needs, or ending its consumer each time. The events beside it are handled.

    One that is there already, since the consumer ended before it could acknowledge it, is not added again.
    """
    program.redis.xgroup_create(program.topic, GROUP, id="0", mkstream=True)
    [deadly, *_] = program.add("deadly")
    program.redis.xreadgroup(GROUP, "died", {program.topic: ">"})
    program.redis.xclaim(program.topic, GROUP, "died", 0, [deadly], retrycount=2, justid=True)
    garbage = program.redis.xadd(program.topic, {"data": b"\xff no JSON"})
    empty = program.redis.xadd(program.topic, {"data": '{"id":"empty"}'})
    added = program.redis.xadd(program.topic, {"data": '{"id":"added"}'})
    program.redis.set(f"{{{program.topic}_dead}}:from:{GROUP}:{added.decode()}", "")
    good = f"good-{program.script}"
    program.add(good)
    consumer = program.start("one")
    eventually(lambda: program.redis.xlen(f"{program.topic}_dead") == 3 and program.finished(), "dead letters", 20)
    assert consumer.stop() == 0, consumer.output
    assert program.done() == [good]
    letters = {fields[b"entry"]: fields for _, fields in program.redis.xrange(f"{program.topic}_dead")}
    assert set(letters) == {deadly, garbage, empty}
    for fields in letters.values():
        assert (fields[b"topic"].decode(), fields[b"group"]) == (program.topic, GROUP.encode())
    assert letters[garbage][b"data"] == b"\xff no JSON"
    assert [int(letters[id_][b"deliveries"]) for id_ in (deadly, garbage, empty)] == [3, 2, 2]
    assert b"none of the consumers finished it" in letters[deadly][b"reason"]
    assert all(b"none of the" not in letters[id_][b"reason"] for id_ in (garbage, empty))


def test_a_database_that_is_away_is_waited_for_and_a_wrong_statement_is_not(monkeypatch, tmp_path):
    """Both are sqlite3.OperationalError; the second would be one for ever."""
    monkeypatch.setenv("GROUP", GROUP)
    spec = importlib.util.spec_from_file_location("redis_consumer", CONSUMERS / "redis_consumer.py")
    consumer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(consumer)
    event = {b"data": b'{"id":"1","data":{"message_id":"m","status":1}}'}
    path = tmp_path / "reports.sqlite"
    with closing(sqlite3.connect(path, timeout=0)) as database, closing(sqlite3.connect(path)) as other:
        database.execute("CREATE TABLE reports (event_id TEXT PRIMARY KEY)")
        assert "has 1 column" in consumer.attempt(event, 1, database)
        for column in ("message_id", "status", "status_desc"):
            database.execute(f"ALTER TABLE reports ADD COLUMN {column}")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            consumer.attempt(event, 1, database)


def test_a_short_name_is_no_topic_of_a_consumer(monkeypatch):
    """It would wait for ever at a stream that nobody writes."""
    monkeypatch.setenv("GROUP", GROUP)
    monkeypatch.setenv("TOPICS", "urn:smn:local:default:sms_success,sms_fail")
    with pytest.raises(SystemExit, match="write whole URNs"):
        runpy.run_path(str(CONSUMERS / "redis_consumer.py"), run_name="__main__")


@programs_with_history
def test_a_consumer_that_starts_again_finishes_what_it_held_at_once(program):
    """Under its name; it does not wait until it may claim."""
    program.redis.xgroup_create(program.topic, GROUP, id="0", mkstream=True)
    ids = [f"held-{program.script}-{number}" for number in range(3)]
    program.add(*ids)
    program.redis.xreadgroup(GROUP, "one", {program.topic: ">"})
    consumer = program.start("one", CLAIM_AFTER="3600")
    eventually(program.finished, "what it held is acknowledged", 20)
    assert program.done() == ids
    assert consumer.stop() == 0, consumer.output


@every_program
def test_a_consumer_goes_on_when_redis_is_back(program, own_valkey):
    """Killed and started again where it was, by itself."""
    server = own_valkey()
    program.use(server.url)
    program.add("before")
    consumer = program.start("one")
    eventually(lambda: program.done() == ["before"] and program.finished(), "the first is handled", 20)
    server.kill()
    eventually(lambda: "rror" in consumer.output or "away" in consumer.output, "it notices", 20)
    own_valkey(server.port)
    program.add("after")
    eventually(program.finished, "the second is handled", 20)
    assert program.done() == ["before", "after"]
    assert consumer.stop() == 0, consumer.output


@pytest.fixture
def sentinel(own_valkey, tmp_path):
    """Return a Redis with a password, and a Sentinel that knows it."""
    server = own_valkey(requirepass="a:b")
    folder = tmp_path / "sentinel"
    folder.mkdir()
    config = folder / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {server.port} 1\nsentinel auth-pass main a:b\n")
    binary = folder / "valkey-sentinel"  # its name makes it one
    binary.symlink_to(valkey_binary())
    process = RedisServer(binary, folder, config=config)
    yield server, process
    process.kill()


@programs_with_history
def test_a_consumer_finds_redis_by_its_sentinels(program, sentinel):
    """The password is Redis', percent-encoded; a Sentinel that does not answer is passed over."""
    server, process = sentinel
    program.use(f"redis://:a%3Ab@127.0.0.1:{server.port}/2")
    program.add("one")
    url = f"valkey+sentinel://:a%3Ab@127.0.0.1:1,127.0.0.1:{process.port}/main/2"
    consumer = program.start("one", REDIS_URL=url)
    eventually(program.finished, "the event is handled", 20)
    assert consumer.stop() == 0, consumer.output


@programs_with_history
def test_a_consumer_reads_topics_of_different_slots_of_a_cluster(program, own_valkey):
    """One command for both would be refused (CROSSSLOT)."""
    server = own_valkey(cluster_enabled="yes", cluster_port=str(free_port()), cluster_announce_ip="127.0.0.1")
    program.use(server.url)
    program.redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    eventually(lambda: program.redis.cluster("INFO")["cluster_state"] == "ok", "the cluster is up")
    topics = [program.topic, f"{program.topic}_b"]
    consumer = program.start(
        "one", REDIS_URL=f"redis+cluster://127.0.0.1:1,127.0.0.1:{server.port}", TOPICS=",".join(topics)
    )
    for program.topic in topics:
        program.add(f"in-{program.topic}")
        eventually(program.finished, "the event is handled", 20)
    assert len(program.done()) == 2
    assert consumer.stop() == 0, consumer.output
