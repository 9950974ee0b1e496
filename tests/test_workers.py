"""``receiver serve`` with several workers: one port, one set of figures, and no worker is missed for long."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from messages import body, report
from servers import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import Receiver


@pytest.fixture
def two_workers(serve: Callable[..., Receiver]) -> Iterator[Receiver]:
    """Run a service with two workers."""
    service = serve(RECEIVER_WORKERS="2")
    eventually(lambda: len(children(service.pid)) == 2, "two workers run")
    yield service
    service.stop()


def one(sid: str) -> bytes:
    """Return a callback with one report."""
    return body([report(sid=sid)])


def children(pid: int) -> list[int]:
    """Return the ids of a process' children, from /proc."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(child) for child in listed.split()]


def acknowledged(service: Receiver) -> int:
    """Return the acknowledged callbacks of all workers, as ``/metrics`` tells."""
    text = service.get("/metrics")[1].decode()
    found = re.search(r'^receiver_callbacks_total\{outcome="ok",provider="tencent"\} (\S+)', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_whichever_worker_is_scraped_tells_the_figures_of_all(two_workers: Receiver) -> None:
    for number in range(40):
        assert two_workers.post(one(sid=f"w-{number}"))[0] == 200
    eventually(lambda: acknowledged(two_workers) == 40, "all acks are counted")


def test_a_worker_that_is_killed_is_replaced_and_its_counts_stay(two_workers: Receiver) -> None:
    assert two_workers.post(one(sid="before"))[0] == 200
    eventually(lambda: acknowledged(two_workers) == 1, "the ack is counted")
    before = children(two_workers.pid)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(children(two_workers.pid)) == 2 and before[0] not in children(two_workers.pid), "replaced")
    eventually(lambda: two_workers.post(one(sid="after"))[0] == 200, "the service answers")
    eventually(lambda: acknowledged(two_workers) == 2, "both acks are counted")


def test_a_reload_replaces_the_workers_and_refuses_nobody(two_workers: Receiver) -> None:
    before = set(children(two_workers.pid))
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
        eventually(lambda: not before & set(children(two_workers.pid)), "the workers are new ones", timeout=20)
    finally:
        replaced.set()
        posting.join()
    assert set(statuses) == {200}


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
