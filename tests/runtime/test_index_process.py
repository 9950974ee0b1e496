"""The report index beside the service: whatever keeps it from running is told, and it is tried again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from messages import SUCCESS, body, report
from redis import Redis
from servers import eventually

from receiver.cli.index_topics import TopicsOfService

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Receiver


def said(service: Receiver, event: str) -> list[dict[str, Any]]:
    """Return the log lines of an event."""
    return [json.loads(line) for line in service.output.splitlines() if f'"event": "{event}"' in line]


def indexes(service: Receiver) -> list[int]:
    """Return the process ids of the indexes that a service, or its workers, run beside them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
            environ = (folder / "environ").read_text().split("\0")
        except OSError:
            continue
        if "--beside" in command and f"PORT={service.port}" in environ:
            found.append(int(folder.name))
    return found


def test_a_lock_that_cannot_be_is_told_and_tried_again(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    lock = tmp_path / "data" / "index.lock"
    lock.mkdir(parents=True)
    service = serve(RECEIVER_INDEX="1", RECEIVER_DATA_DIR=str(tmp_path / "data"))
    [line] = eventually(lambda: said(service, "indexer.not_started"), "it is told")
    assert line["level"] == "error"
    assert "index.lock" in line["error"]
    lock.rmdir()
    eventually(lambda: said(service, "indexer.started"), "it runs")
    assert service.stop() == 0


def test_one_that_ends_is_started_again(serve: Callable[..., Receiver]) -> None:
    service = serve(RECEIVER_INDEX="1")
    eventually(lambda: said(service, "indexer.started"), "it runs")
    [index] = indexes(service)
    os.kill(index, signal.SIGKILL)
    eventually(lambda: len(said(service, "indexer.started")) == 2, "it runs again")
    assert [line["level"] for line in said(service, "indexer.ended")] == ["error"]
    assert service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_tells_what_its_index_has_done(
    serve: Callable[..., Receiver], redis_url: str, workers: str
) -> None:
    """An entry that is no event is logged with its id, and can be alerted on; at first the count is there, at 0."""
    service = serve(RECEIVER_INDEX="1", RECEIVER_WORKERS=workers)
    assert service.post(body([report("m1"), report("m2")]))[0] == 200
    counted = 'receiver_index_entries{outcome="%s"}'
    eventually(lambda: service.figure(counted % "applied") == 2, "both reports are counted")
    assert counted % "undecodable" + " 0.0" in service.get("/metrics")[1].decode()
    with Redis.from_url(redis_url) as redis:
        entry_id = redis.xadd(SUCCESS, {"data": "no event"}).decode()
    eventually(lambda: service.figure(counted % "undecodable") == 1, "the entry is counted")
    [line] = said(service, "indexer.undecodable")
    assert (line["level"], line["topic"], line["entry_ids"]) == ("error", SUCCESS, [entry_id])
    assert service.figure(counted % "applied") == 2
    assert service.stop() == 0
    with Redis.from_url(redis_url) as redis:
        assert redis.hgetall("lookups:counts")[b"applied"] == b"2"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_that_asks_all_processes_to_end_is_no_fault(serve: Callable[..., Receiver], workers: str) -> None:
    """As systemd does it; the service serves on for a while, and needs no new index for that."""
    service = serve(RECEIVER_INDEX="1", RECEIVER_STOP_DELAY="3s", RECEIVER_WORKERS=workers)
    eventually(lambda: said(service, "indexer.started"), "it runs")
    group = [service.pid, *indexes(service), *service.children]
    for pid in dict.fromkeys(group):
        os.kill(pid, signal.SIGTERM)
    assert service.process.wait(20) == 0
    assert len(said(service, "indexer.stopped")) == 1
    assert said(service, "indexer.ended") == []
    assert len(said(service, "indexer.started")) == 1


async def test_the_end_of_the_service_ends_the_index_even_in_the_middle_of_a_line() -> None:
    """A long list of topics does not fit into the pipe at once. What was cut is not read as topics."""
    source, stop, reader = TopicsOfService(), asyncio.Event(), asyncio.StreamReader()
    reader.feed_data(b'["urn:a","urn:b"]\n["urn:a","ur')
    reader.feed_eof()
    await source._read(reader, stop)  # noqa: SLF001 open() reads this process's own stdin
    assert stop.is_set()
    assert source.topics() == ["urn:a", "urn:b"]
