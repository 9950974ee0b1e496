"""What an event costs in Redis' memory and on the spool's disk, for the capacity table of deploy/scale.md.

Run it with the number of events: ``.venv/bin/python tests/bench/memory.py 200000``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import click
from redis import Redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from messages import SUCCESS, body, report
from servers import Receiver, RedisServer, eventually

from receiver.embedded import valkey_binary

BATCH = 500


def post(receiver: Receiver, events: int) -> None:
    """Post different reports, as Tencent does."""
    for first in range(0, events, BATCH):
        status, _ = receiver.post(body([report(f"5000:{number:026d}") for number in range(first, first + BATCH)]))
        assert status == 200


def in_redis(folder: Path, events: int) -> dict[str, float]:
    """Return the bytes of an entry, of a mark of the dedupe, and of an entry that a group has read."""
    server = RedisServer(valkey_binary(), folder)
    receiver = Receiver(folder / "receiver", {"REDIS_URL": server.url})
    try:
        with Redis.from_url(server.url) as client:
            client.xgroup_create(SUCCESS, "billing", id="0", mkstream=True)
            post(receiver, events)
            eventually(lambda: client.xlen(SUCCESS) == events, "all are in Redis", 60)
            before = client.info("memory")["used_memory"]
            while client.xreadgroup("billing", "one", {SUCCESS: ">"}, count=1000):
                pass
            pending = client.info("memory")["used_memory"] - before
            marks = sum(client.memory_usage(key, samples=0) for key in client.scan_iter("*:seen:*"))
            client.xgroup_destroy(SUCCESS, "billing")
            entries = client.memory_usage(SUCCESS, samples=0)
            return {"entry": entries / events, "mark": marks / events, "pending entry and group": pending / events}
    finally:
        receiver.stop()
        server.stop()


def on_disk(folder: Path, events: int) -> float:
    """Return the bytes of an event in the spool."""
    receiver = Receiver(folder, {"REDIS_URL": "redis://127.0.0.1:1/0"})
    try:
        post(receiver, events)
    finally:
        receiver.stop()
    return sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file()) / events


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=200_000)
    events = parser.parse_args().events // BATCH * BATCH
    with tempfile.TemporaryDirectory() as folder:
        figures = in_redis(Path(folder), events)
        figures["event in the spool"] = on_disk(Path(folder) / "spool", events)
    for name, size in figures.items():
        click.echo(f"{name:<24} {size:6.0f} bytes")


if __name__ == "__main__":
    main()
