"""``receiver serve`` with several workers: one port, one set of figures, and no worker is missed for long."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from messages import SUCCESS, body, report
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from servers import Receiver, eventually, free_port

from receiver.embedded import embedded_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import RedisServer


@pytest.fixture(scope="module")
def service_of_two(valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Run a service with two workers; starting one takes longer than most tests of it."""
    service = Receiver(tmp_path_factory.mktemp("workers"), {"REDIS_URL": valkey.url, "RECEIVER_WORKERS": "2"})
    yield service
    assert service.stop() == 0


@pytest.fixture
def two_workers(service_of_two: Receiver) -> Receiver:
    """Return the service when both of its workers run, whatever tests before have done to them."""
    eventually(lambda: len(service_of_two.children) == 2 and service_of_two.complete(), "two workers serve")
    return service_of_two


def one(sid: str) -> bytes:
    """Return a callback with one report."""
    return body([report(sid=sid)])


def accepted(pid: int, ports: set[int]) -> int:
    """Return how many connections that come from these ports a process holds, from /proc."""
    links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(int(row[2].split(":")[1], 16) in ports and f"socket:[{row[9]}]" in links for row in rows)


def acknowledged(service: Receiver) -> int:
    """Return the acknowledged callbacks of all workers, as ``/metrics`` tells."""
    text = service.get("/metrics")[1].decode()
    found = re.search(r'^receiver_callbacks_total\{outcome="ok",provider="tencent"\} (\S+)', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_whichever_worker_is_scraped_tells_the_figures_of_all(two_workers: Receiver) -> None:
    before = acknowledged(two_workers)
    for number in range(40):
        assert two_workers.post(one(sid=f"w-{number}"))[0] == 200
    eventually(lambda: acknowledged(two_workers) - before == 40, "all acks are counted")


def test_a_worker_that_is_killed_is_replaced_and_its_counts_stay(two_workers: Receiver) -> None:
    counted = acknowledged(two_workers)
    assert two_workers.post(one(sid="before"))[0] == 200
    eventually(lambda: acknowledged(two_workers) == counted + 1, "the ack is counted")
    before = two_workers.children
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(two_workers.children) == 2 and before[0] not in two_workers.children, "replaced")
    eventually(lambda: two_workers.post(one(sid="after"))[0] == 200, "the service answers")
    eventually(lambda: acknowledged(two_workers) == counted + 2, "both acks are counted")


def test_what_is_told_of_a_worker_goes_with_it(two_workers: Receiver) -> None:
    """Its number is free for the next one, and nothing of its state is left: it would be alarmed on for ever."""

    def told() -> list[str]:
        text = two_workers.get("/metrics")[1].decode()
        return re.findall(r'^receiver_worker_route\{route="redis",worker="(\d+)"\} 1.0$', text, re.MULTILINE)

    eventually(lambda: sorted(told()) == ["1", "2"], "both are there")
    before = two_workers.children
    os.kill(before[1], signal.SIGKILL)
    eventually(lambda: before[1] not in two_workers.children, "it is gone")
    eventually(lambda: len(two_workers.children) == 2 and sorted(told()) == ["1", "2"], "its successor is there")


def test_workers_agree_on_what_is_wrong(serve: Callable[..., Receiver], own_valkey: Callable[..., RedisServer]) -> None:
    """A callback tells one worker that Redis has gone. An alert must not see events that stay although Redis is there.

    The others find out within seconds, without traffic.
    """
    valkey = own_valkey()
    service = serve(REDIS_URL=valkey.url, RECEIVER_WORKERS="2")
    valkey.kill()
    assert service.post(one(sid="to one of them"))[0] == 200

    def routes() -> dict[str, float]:
        exposition = service.get("/metrics")[1].decode()
        found = {
            sample.labels["route"]: sample.value
            for family in text_string_to_metric_families(exposition)
            for sample in family.samples
            if sample.name == "receiver_route"
        }
        assert sum(found.values()) == 1, found
        return found

    eventually(lambda: routes()["spool"] == 1, "the worst is told", 5)
    eventually(lambda: service.figure('receiver_worker_route{route="spool"') == 2, "both know", 5)
    for _ in range(20):
        worst = json.loads(service.get("/readyz")[1])["worst"]
        assert (worst["route"], worst["worker"] in (1, 2), worst["pid"] in service.children) == (
            "spool",
            True,
            True,
        )


def test_a_worker_that_cannot_start_does_not_end_the_others(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    """What is wrong may pass: it is tried again."""
    data = tmp_path / "data"
    # The connection has sent nothing while the worker is tried again, which may take long.
    service = serve(RECEIVER_WORKERS="2", RECEIVER_DATA_DIR=str(data), RECEIVER_READ_TIMEOUT="300s")
    before = service.children
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        ours = {connection.getsockname()[1]}
        [serving] = eventually(lambda: [worker for worker in before if accepted(worker, ours)], "it is accepted")
        (data / "spool").rename(tmp_path / "elsewhere")
        (data / "spool").touch()
        os.kill(next(worker for worker in before if worker != serving), signal.SIGKILL)
        eventually(lambda: service.output.count("worker.not_started") >= 2, "it is tried again", 20)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: receiver\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    (data / "spool").unlink()
    eventually(lambda: service.figure('receiver_worker_route{route="redis"') == 2, "both serve", 20)
    assert service.stop() == 0


def test_connections_that_stay_are_spread_over_the_workers(two_workers: Receiver) -> None:
    connections = [socket.create_connection(("127.0.0.1", two_workers.port)) for _ in range(64)]
    ours = {connection.getsockname()[1] for connection in connections}
    workers = two_workers.children
    try:
        taken = eventually(
            lambda: sum(found := [accepted(worker, ours) for worker in workers]) == 64 and found, "all are accepted"
        )
    finally:
        for connection in connections:
            connection.close()
    assert min(taken) >= 10  # evenly, at random: fewer than 10 of 64 once in ten million runs


def test_fewer_workers_than_sockets_are_refused(two_workers: Receiver) -> None:
    two_workers.signal(signal.SIGTTOU)
    for number in range(20):
        assert two_workers.post(one(sid=f"ttou-{number}"))[0] == 200
    assert len(two_workers.children) == 2


def test_a_port_that_others_have_is_refused_at_once(two_workers: Receiver, tmp_path: Path) -> None:
    environ = dict(os.environ, PORT=str(two_workers.port), REDIS_URL="redis://127.0.0.1:1", RECEIVER_DATA_DIR="other")
    second = subprocess.run(
        [sys.executable, "-m", "receiver", "serve", "--workers", "2"],
        env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert "cannot listen on 127.0.0.1" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("place", ["data", "data/spool"])
def test_a_data_folder_that_is_a_file_is_one_sentence(
    serve: Callable[..., Receiver], tmp_path: Path, place: str
) -> None:
    blocked = tmp_path / place
    blocked.parent.mkdir(exist_ok=True)
    blocked.touch()
    service = serve(wait=False, RECEIVER_WORKERS="2", RECEIVER_DATA_DIR=str(tmp_path / "data"))
    assert service.process.wait(20) == 2
    [sentence] = [line for line in service.output.splitlines() if "data.made_private" not in line]
    assert "set RECEIVER_DATA_DIR" in sentence


def test_a_reload_replaces_the_workers_and_refuses_nobody(two_workers: Receiver) -> None:
    before = set(two_workers.children)
    statuses: list[int] = []
    replaced = threading.Event()

    def post() -> None:
        number = 0
        while not replaced.is_set():
            number += 1
            statuses.append(two_workers.post(one(sid=f"reload-{number}"))[0])

    posting = threading.Thread(target=post)
    posting.start()
    two_workers.signal(signal.SIGHUP)
    try:
        eventually(lambda: not before & set(two_workers.children), "the workers are new ones", timeout=20)
    finally:
        replaced.set()
        posting.join()
    assert set(statuses) == {200}


def test_a_reload_loses_no_counts(serve: Callable[..., Receiver]) -> None:
    """Workers hand over what they have counted since the last second before they end."""
    service = serve(RECEIVER_WORKERS="2")
    before = set(service.children)
    for number in range(40):
        assert service.post(one(sid=f"counted-{number}"))[0] == 200
    service.signal(signal.SIGHUP)
    eventually(lambda: not before & set(service.children), "the workers are new ones", timeout=20)
    eventually(service.ready, "they serve")
    assert acknowledged(service) == 40


def keys(config: Path, *keys: str) -> None:
    """Write a file with one project and its keys."""
    config.write_text(f"[projects.p]\ncallback_keys = {json.dumps(keys)}", encoding="utf-8")


def test_a_reload_puts_the_file_in_force(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    keys(config, "first-key-of-p")
    service = serve(RECEIVER_WORKERS="2", RECEIVER_CONFIG=str(config))
    before = set(service.children)
    keys(config, "second-key-of-p")
    service.signal(signal.SIGHUP)
    eventually(lambda: len(after := set(service.children)) == 2 and not before & after, "new workers", timeout=20)
    assert {service.post(one(sid=f"k-{number}"), "/sms/callback?key=second-key-of-p")[0] for number in range(10)} == {
        200
    }
    assert {service.post(one(sid=f"k-{number}"), "/sms/callback?key=first-key-of-p")[0] for number in range(10)} == {
        401
    }
    assert service.stop() == 0


def test_a_file_that_is_wrong_changes_nothing(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    keys(config, "first-key-of-p")
    service = serve(RECEIVER_WORKERS="2", RECEIVER_CONFIG=str(config))
    before = service.children
    config.write_text("[projects.p]\ncallback_keys = 5\ntokens = 5\n", encoding="utf-8")
    service.signal(signal.SIGHUP)
    eventually(lambda: service.output.count("settings.refused") == 2, "both mistakes are told")
    refused = [json.loads(line) for line in service.output.splitlines() if "settings.refused" in line]
    assert {line["level"] for line in refused} == {"error"}
    assert "projects.p.callback_keys" in refused[0]["problem"]
    assert "projects.p.tokens" in refused[1]["problem"]
    os.kill(before[0], signal.SIGKILL)  # a worker that replaces another has the settings in force, too
    eventually(lambda: len(service.children) == 2 and before[0] not in service.children, "replaced")
    for number in range(10):
        path = "/sms/callback?key=first-key-of-p"
        eventually(lambda: service.post(one(sid=f"w-{number}"), path)[0] == 200, "served")  # noqa: B023 awaited
    assert service.stop() == 0


def test_the_embedded_valkey_is_started_once_and_stopped_last(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    port = str(free_port())
    service = serve(
        RECEIVER_WORKERS="2", REDIS_URL="", RECEIVER_EMBEDDED_PORT=port, RECEIVER_DATA_DIR=str(tmp_path / "kept")
    )
    assert service.post(one(sid="embedded"))[0] == 200
    assert service.stop() == 0
    assert service.output.count("embedded.started") == 1
    again = serve(
        RECEIVER_WORKERS="2", REDIS_URL="", RECEIVER_EMBEDDED_PORT=port, RECEIVER_DATA_DIR=str(tmp_path / "kept")
    )
    assert again.post(one(sid="again"))[0] == 200


def test_a_worker_that_has_just_been_forked_hears_that_it_is_to_stop(serve: Callable[..., Receiver]) -> None:
    """It has no handlers of its own then; killed after gunicorn's patience, it would leave acks unsaid."""
    service = serve(wait=False, RECEIVER_WORKERS="2")
    eventually(lambda: "Booting worker" in service.output, "the first worker is there")
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 10


class Kept:
    """A service with an embedded Valkey that is started again and again: its port, its data, what it acknowledged."""

    def __init__(self, serve: Callable[..., Receiver], folder: Path) -> None:
        self._serve = serve
        self._port, self._valkey_port = str(free_port()), str(free_port())
        self._folder = folder
        self.acknowledged: list[str] = []
        self.service = self.start()
        self.quiet = threading.Event()
        self._posting = threading.Thread(target=self._post)
        self._posting.start()

    def start(self, *, wait: bool = True) -> Receiver:
        """Start it; it is the service from now on."""
        self.service = self._serve(
            wait=wait, PORT=self._port, RECEIVER_WORKERS="2", REDIS_URL="", RECEIVER_EMBEDDED_PORT=self._valkey_port,
            RECEIVER_DATA_DIR=str(self._folder),
        )  # fmt: skip
        return self.service

    def valkey(self) -> int:
        """Return the process id of its Valkey, which answers."""
        with Redis.from_url(embedded_url(self._folder / "valkey", int(self._valkey_port))) as client:
            return int(client.info("server")["process_id"])

    def workers(self) -> list[int]:
        """Return the process ids of its workers; the Valkey is a child as well."""
        return [child for child in self.service.children if child != self.valkey()]

    def stored(self) -> list[str]:
        """Return the ids of the messages in the stream."""
        with Redis.from_url(embedded_url(self._folder / "valkey", int(self._valkey_port))) as client:
            return [json.loads(fields[b"data"])["data"]["message_id"] for _, fields in client.xrange(SUCCESS)]

    def end_traffic(self) -> None:
        """Post no more."""
        self.quiet.set()
        self._posting.join()

    def _post(self) -> None:
        number = 0
        while not self.quiet.is_set():
            number += 1
            try:
                if self.service.post(one(sid=f"k-{number}"))[0] == 200:
                    self.acknowledged.append(f"k-{number}")
            except OSError:  # it was killed, or is not there yet
                continue


@pytest.fixture
def kept(serve: Callable[..., Receiver], tmp_path: Path) -> Iterator[Kept]:
    """Return such a service, with traffic."""
    found = Kept(serve, tmp_path / "kept")
    yield found
    found.end_traffic()


def test_a_supervisor_that_is_killed_is_succeeded_at_once(kept: Kept) -> None:
    """Its workers leave the port to the next service, its Valkey goes on, and nothing acknowledged is lost."""
    valkey = kept.valkey()
    eventually(lambda: len(kept.acknowledged) > 20, "it serves")
    workers = kept.workers()
    kept.service.kill()
    kept.start()
    eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "the old ones end")
    assert kept.valkey() == valkey
    before = len(kept.acknowledged)
    eventually(lambda: len(kept.acknowledged) > before + 20, "it serves again")
    kept.end_traffic()
    eventually(lambda: sorted(kept.stored()) == sorted(set(kept.acknowledged) | set(kept.stored())), "all is there")
    assert len(kept.stored()) == len(set(kept.stored()))
    assert kept.service.stop() == 0


def test_workers_that_outlive_their_supervisor_keep_their_valkey(kept: Kept) -> None:
    """They hold the port, so the next service cannot start; it leaves all as it was."""
    valkey = kept.valkey()
    eventually(lambda: len(kept.acknowledged) > 20, "it serves")
    workers = kept.workers()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    kept.service.kill()
    kept.start(wait=False)
    assert kept.service.process.wait(20) == 2
    assert "cannot listen" in kept.service.output
    assert kept.valkey() == valkey
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "they end")
    kept.start()
    assert kept.valkey() == valkey


def test_a_worker_ends_with_its_supervisor(serve: Callable[..., Receiver]) -> None:
    """It is told, and does not find out at its next look: a second is long for who waits for the port."""
    service = serve(RECEIVER_WORKERS="2")
    workers = service.children
    service.kill()
    eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "they end")
    assert service.output.count("The supervisor has ended") == 2
