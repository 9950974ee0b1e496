"""A stop has an end: whatever stands still, the service is gone within its own bounds, and says what it left undone."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chaos.tracing import traced
from messages import body, report
from servers import Receiver, eventually, free_port

from receiver.runtime.signals import longest_stop, longest_stop_of_all
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import RedisServer

#: Bounds that let a test end soon.
_SOON = {"RECEIVER_STOP_DELAY": "0s", "RECEIVER_STOP_TIMEOUT": "2s"}
_LONGEST = {"1": longest_stop(read_settings(_SOON)), "2": longest_stop_of_all(read_settings(_SOON))}
#: Seconds for a busy machine to see that a process is gone.
_SLACK = 5.0


def said(service: Receiver, event: str) -> list[dict[str, Any]]:
    """Return the log lines of an event."""
    return [json.loads(line) for line in service.output.splitlines() if f'"event": "{event}"' in line]


def has_ended(pid: int) -> bool:
    """Tell whether a process has ended, although a thread that the kernel holds may keep it from being reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def seconds_to_stop(service: Receiver) -> float:
    """Ask a service to end, and return how long that took."""
    began = time.monotonic()
    service.signal(signal.SIGTERM)
    eventually(lambda: has_ended(service.pid), "it has ended", 50)
    return time.monotonic() - began


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_disk_that_stalls_does_not_hold_it_up(
    serve: Callable[..., Receiver], tmp_path: Path, workers: str
) -> None:
    """Redis is away, and each sync takes a minute: what was handed in is refused, and counted in the log."""
    away = f"redis://127.0.0.1:{free_port()}/0"
    service = serve(REDIS_URL=away, RECEIVER_WORKERS=workers, **_SOON)
    writer = Process(service.children[0] if workers == "2" else service.pid)
    async with traced(writer, tmp_path, sync_takes=60):
        posting = [threading.Thread(target=service.post, args=(body([report(f"5000:{n}")]),)) for n in range(20)]
        for thread in posting:
            thread.start()
        eventually(lambda: (tmp_path / "trace").stat().st_size, "a sync is under way")
        for thread in posting:
            thread.join()
        taken = seconds_to_stop(service)
    assert taken < _LONGEST[workers] + _SLACK
    left = said(service, "delivery.not_closed")
    assert [line["spool_events"] > 0 for line in left] == [True]
    assert said(service, "service.stop_unfinished")


class Process:
    """A process by its id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_frozen_redis_does_not_hold_it_up(
    serve: Callable[..., Receiver], own_valkey: Callable[..., RedisServer], workers: str
) -> None:
    """Nothing is left undone: the disk has taken what was handed in."""
    redis = own_valkey()
    service = serve(REDIS_URL=redis.url, RECEIVER_WORKERS=workers, RECEIVER_INDEX="1", **_SOON)
    eventually(lambda: said(service, "indexer.started"), "the index runs")
    redis.signal(signal.SIGSTOP)
    assert service.post(body([report()]))[0] == 200
    assert seconds_to_stop(service) < _LONGEST[workers] + _SLACK
    assert service.process.wait(5) == 0
    assert said(service, "service.stop_unfinished") == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_frozen_embedded_valkey_does_not_hold_it_up(
    serve: Callable[..., Receiver], tmp_path: Path, workers: str
) -> None:
    """It is killed: what it has acknowledged is on the disk."""
    data = tmp_path / "data"
    service = serve(
        REDIS_URL="", RECEIVER_EMBEDDED_PORT=str(free_port()), RECEIVER_DATA_DIR=str(data), RECEIVER_WORKERS=workers,
        **_SOON,
    )  # fmt: skip
    valkey = int((data / "valkey" / "valkey.pid").read_text(encoding="ascii"))
    os.kill(valkey, signal.SIGSTOP)
    assert service.post(body([report()]))[0] == 200
    assert seconds_to_stop(service) < _LONGEST[workers] + _SLACK
    eventually(lambda: not Path(f"/proc/{valkey}").exists(), "the Valkey is gone")
    assert service.process.wait(5) == 0


def test_reloads_that_wait_give_way_to_the_end(serve: Callable[..., Receiver]) -> None:
    """The first has begun, the others are asked for meanwhile; none of them is begun any more."""
    service = serve(RECEIVER_WORKERS="2", **_SOON)
    service.signal(signal.SIGHUP)
    eventually(lambda: said(service, "settings.reloaded"), "the first has begun")
    for _ in range(9):
        service.signal(signal.SIGHUP)
        time.sleep(0.01)  # those that come at the same moment are one to the kernel
    taken = seconds_to_stop(service)
    assert len(said(service, "settings.reloaded")) == 1
    assert service.process.wait(5) == 0
    assert taken < _LONGEST["2"] + _SLACK


def test_reloads_that_wait_become_one(serve: Callable[..., Receiver]) -> None:
    """All of them ask for what the file says now."""
    service = serve(RECEIVER_WORKERS="2", **_SOON)
    service.signal(signal.SIGHUP)
    eventually(lambda: said(service, "settings.reloaded"), "the first has begun")
    for _ in range(9):
        service.signal(signal.SIGHUP)
        time.sleep(0.01)  # as above
    eventually(lambda: len(said(service, "settings.reloaded")) == 2, "the others are heard", 30)
    before = set(service.children)
    eventually(lambda: len(now := set(service.children)) == 2 and service.ready() and now, "it is done", 30)
    service.signal(signal.SIGHUP)
    eventually(lambda: len(said(service, "settings.reloaded")) == 3, "a later one is heard as well", 30)
    eventually(lambda: not before & set(service.children), "the workers are new ones", 30)
    assert len(said(service, "settings.reloaded")) == 3
    assert service.stop() == 0
