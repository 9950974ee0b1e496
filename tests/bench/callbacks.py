"""The receiver between its floor (bare aiohttp) and its ceiling (XADD alone), in one run.

    .venv/bin/python tests/bench/callbacks.py            # two minutes; needs Debian's wrk and redis-tools

Servers are pinned to processor 0 and the load and Redis to processor 1 where there are two. Absolute figures differ
from machine to machine; the ratios are what to look at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from redis import Redis
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from servers import Receiver, RedisServer, eventually, free_port

from receiver.embedded import valkey_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
TWO_PROCESSORS = (os.cpu_count() or 1) > 1
Row = dict[str, Any]


def pin(pid: int, processor: int) -> None:
    """Keep a process on one processor, if there are two."""
    if TWO_PROCESSORS:
        os.sched_setaffinity(pid, {processor})


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process, from /proc."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def load(port: int, batch: int, connections: int, seconds: int) -> dict[str, float]:
    """Post callbacks for so many seconds; return requests, seconds, percentiles in ms and answers that were no 2xx."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / "load.lua")]
    environ = dict(os.environ, BATCH=str(batch), SALT=str(time.time_ns()))
    pinned = ["taskset", "-c", "1"] if TWO_PROCESSORS else []
    done = subprocess.run(
        [*pinned, *command, f"http://127.0.0.1:{port}"], env=environ, capture_output=True, text=True, check=True
    ).stdout
    counted = re.search(r"(\d+) requests in ([\d.]+)(m?)s", done)
    assert counted, done
    figures = {"requests": int(counted[1]), "seconds": float(counted[2])}
    for percent, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", done):
        figures[f"p{percent}_ms"] = float(value) * UNITS[unit]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    return figures | {"not_2xx": int(bad[1]) if bad else 0}


@contextmanager
def valkey(folder: Path, fsync: str) -> Iterator[RedisServer]:
    """Run an empty Valkey; ``fsync`` is its appendfsync, or ``off`` for no file at all."""
    options = {"appendonly": "no"} if fsync == "off" else {"appendfsync": fsync}
    server = RedisServer(valkey_binary(), folder, **options)
    pin(server.pid, 1)
    yield server
    server.kill()


def floor(batch: int, connections: int, seconds: int) -> Row:
    """Measure bare aiohttp."""
    port = free_port()
    server = subprocess.Popen([sys.executable, str(HERE / "floor.py"), str(port)])
    try:
        pin(server.pid, 0)
        eventually(lambda: b"LISTEN" and _listens(port), "bare aiohttp listens")
        return {"server": "bare aiohttp", "batch": batch, **load(port, batch, connections, seconds)}
    finally:
        server.kill()
        server.wait()


def receiver(batch: int, connections: int, seconds: int, fsync: str, workers: int = 1) -> Row:
    """Measure the receiver: deduplicating, and with every ack preceded by Redis' own."""
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder), fsync) as store:
        environ = {"REDIS_URL": store.url, "RECEIVER_LOG_LEVEL": "warning", "RECEIVER_WORKERS": str(workers)}
        service = Receiver(Path(folder) / "receiver", environ)
        try:
            if workers == 1:
                pin(service.pid, 0)
            rest = resident_megabytes(service.pid)
            before = cpu_seconds(service.pid), cpu_seconds(store.pid)
            figures = load(service.port, batch, connections, seconds)
            after = cpu_seconds(service.pid), cpu_seconds(store.pid)
            events = figures["requests"] * batch
            with Redis.from_url(store.url) as client:
                stored = int(client.xlen("urn:smn:local:default:sms_success"))  # type: ignore[arg-type]
            assert stored >= events, f"{events} events were acknowledged and {stored} are stored"
            return {
                "server": f"receiver, fsync {fsync}" + (f", {workers} workers" if workers > 1 else ""),
                "batch": batch,
                **figures,
                "server_us_per_event": (after[0] - before[0]) / events * 1e6,
                "redis_us_per_event": (after[1] - before[1]) / events * 1e6,
                "megabytes_at_rest": rest,
                "megabytes_under_load": resident_megabytes(service.pid),
            }
        finally:
            service.kill()


def ceiling() -> Row:
    """Measure what redis-benchmark does with XADD of an entry of the same size: events a second, pipelined."""
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder), "off") as store:
        command = ["redis-benchmark", "-p", str(store.port), "-n", "1000000", "-P", "500", "-c", "4", "--csv"]
        entry = ["XADD", "urn:smn:local:default:sms_success", "*", "data", "x" * 480]
        before = cpu_seconds(store.pid)
        done = subprocess.run([*command, *entry], capture_output=True, text=True, check=True).stdout
        used = cpu_seconds(store.pid) - before
        rate = float(done.splitlines()[1].split(",")[1].strip('"'))
        return {"server": "XADD alone", "batch": 500, "requests": rate / 500, "seconds": 1, "redis_us_per_event": used}


def _listens(port: int) -> bool:
    import socket  # noqa: PLC0415 here alone

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def table(rows: list[Row]) -> Table:
    """Lay the rows out for people. The ratio is events a second against bare aiohttp with the same batch."""
    titles = ("server", "reports a callback", "callbacks/s", "events/s", "of bare aiohttp")
    shown = Table(*titles, "p50 ms", "p99 ms", "µs an event", "Redis µs an event", "MB", title="Callbacks")
    floors = {row["batch"]: row["requests"] / row["seconds"] for row in rows if row["server"] == "bare aiohttp"}
    for row in rows:
        rate = row["requests"] / row["seconds"]
        ratio = f"{rate / floors[row['batch']]:.2f}" if row["batch"] in floors else ""
        cells = [f"{row[key]:.2f}" if key in row else "" for key in ("p50_ms", "p99_ms", "server_us_per_event")]
        rest = [f"{row[key]:.1f}" if key in row else "" for key in ("redis_us_per_event", "megabytes_under_load")]
        shown.add_row(
            row["server"], str(row["batch"]), f"{rate:,.0f}", f"{rate * row['batch']:,.0f}", ratio, *cells, *rest
        )
    return shown


@click.command(help=__doc__)
@click.option("--batches", default="1,10,100,500", show_default=True)
@click.option("--seconds", default=4, show_default=True)
@click.option("--connections", default=32, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def main(batches: str, seconds: int, connections: int, *, as_json: bool) -> None:
    """Run everything, then print the table."""
    for tool in ("wrk", "redis-benchmark"):
        if shutil.which(tool) is None:
            raise click.ClickException(f"{tool} is not installed; apt-get install wrk redis-tools")
    sizes = [int(size) for size in batches.split(",")]
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=3 * len(sizes) + 1)
        for batch in sizes:
            for measure in (
                lambda b=batch: floor(b, connections, seconds),
                lambda b=batch: receiver(b, connections, seconds, "off"),
                lambda b=batch: receiver(b, connections, seconds, "always"),
            ):
                rows.append(measure())
                progress.advance(task)
        rows.append(ceiling())
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    else:
        Console().print(table(rows))


if __name__ == "__main__":
    main()
