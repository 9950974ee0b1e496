"""Microseconds an event by step of the callback path, beside what each step costs when done the usual way.

    .venv/bin/python tests/bench/steps.py            # half a minute
    .venv/bin/python tests/bench/steps.py --json

The usual way: json and marshmallow, a UUID from SHA-1, json.dumps, redis-py's own packing, a plain XADD without
deduplication. Each figure is the best of several runs, which is what noise disturbs least. The last row is Redis' own
account of its processor time (INFO commandstats), without reading the command, for calls of so many events: under load
a call has up to 100, however many callbacks they came in. Reading a request and answering it is not here: that is what
``callbacks.py`` measures as bare aiohttp.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import timeit
import uuid
from datetime import UTC
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from redis import Redis
from redis.connection import Connection
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from servers import RedisServer

from receiver.delivery import publisher, script_calls
from receiver.embedded import valkey_binary
from receiver.events import EnvelopeBuilder
from receiver.providers.base import request_of
from receiver.providers.tencent import StatusReport, Tencent

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (1, 10, 100)
TOPIC = "urn:smn:local:default:sms_success"
RECEIVED_MS = 1_795_000_000_000
RUNS = 7
#: Seconds that one run takes, about.
RUN = 0.05


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of the callback path, both ways; each takes a whole batch."""

    name: str
    usual: Callable[[], Any]
    ours: Callable[[], Any]


def reports(batch: int, first: int = 0) -> list[dict[str, str]]:
    """Return a batch as Tencent sends it."""
    same = {"user_receive_time": "2026-11-21 08:03:04", "nationcode": "86", "mobile": "13800138000",
            "report_status": "SUCCESS", "errmsg": "DELIVRD", "description": "delivered"}  # fmt: skip
    return [{**same, "sid": f"5000:{number:028d}"} for number in range(first, first + batch)]


def steps(batch: int) -> list[Step]:
    """Return the steps in this process, in the order of the path."""
    body = json.dumps(reports(batch)).encode()
    tencent, builder = Tencent(), EnvelopeBuilder("tencent", "default")
    window = script_calls.CurrentWindow(86400)
    schema, decoder, to_event = StatusReport(), Tencent.item_types[0].many, Tencent.item_types[0].to_event
    loaded, structs = schema.load(json.loads(body), many=True), decoder.decode(body)
    events = [to_event(tencent, struct, None) for struct in structs]
    entries = [builder.build(event, TOPIC, RECEIVED_MS) for event in events]
    datas, envelopes = [json.loads(e.data) for e in events], [json.loads(e.data) for e in entries]
    connection = Connection()
    added = [("XADD", TOPIC, "*", "data", entry.data) for entry in entries]
    return [
        Step("decode, validate", lambda: schema.load(json.loads(body), many=True), lambda: decoder.decode(body)),
        Step(
            "normalise",
            lambda: [json.dumps(plainly(item)) for item in loaded],
            lambda: [to_event(tencent, struct, None) for struct in structs],
        ),
        Step(
            "id",
            lambda: [uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(data)) for data in datas],
            lambda: [blake2b(event.data, digest_size=16).hexdigest() for event in events],
        ),
        Step(
            "encode, the id included here",
            lambda: [json.dumps(envelope) for envelope in envelopes],
            lambda: [builder.build(event, TOPIC, RECEIVED_MS) for event in events],
        ),
        Step(
            "pack",
            lambda: connection.pack_commands(added),
            lambda: [publisher._pack(*window.arguments(call)) for call in script_calls.grouped(entries)],
        ),
    ]


def plainly(report: dict[str, Any]) -> dict[str, Any]:
    """Normalise a report as one would without a thought for speed."""
    return {
        "event_type": "sms_success_event" if report["report_status"] == "SUCCESS" else "sms_fail_event",
        "message_id": report["sid"],
        "status": 1 if report["report_status"] == "SUCCESS" else 2,
        "status_desc": report["errmsg"],
        "description": report["description"],
        "nation_code": report["nationcode"],
        "mobile": report["mobile"],
        "deliver_time": report["user_receive_time"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def best(work: Callable[[], Any]) -> float:
    """Return the microseconds of one call."""
    timer = timeit.Timer(work)
    number = max(1, int(RUN / max(1e-7, min(timer.repeat(3, 1)))))
    return min(timer.repeat(RUNS, number)) / number * 1e6


def in_redis(client: Redis, batch: int) -> dict[str, float]:
    """Return the microseconds of Redis' processor that an event takes by XADD alone and by the script."""
    builder, tencent = EnvelopeBuilder("tencent", "default"), Tencent()
    calls = []
    for number in range(max(100, 20_000 // batch)):
        events = tencent.parse(request_of(json.dumps(reports(batch, number * batch)).encode())).events
        calls.append([builder.build(event, TOPIC, RECEIVED_MS) for event in events])
    client.script_load(script_calls.SCRIPT)
    window = script_calls.CurrentWindow(86400)
    spent = {}
    for way in ("usual", "here"):
        client.flushall()
        client.config_resetstat()
        for entries in calls:
            if way == "usual":
                with client.pipeline(transaction=False) as pipe:
                    for entry in entries:
                        pipe.xadd(TOPIC, {"data": entry.data})
                    pipe.execute()
            else:
                client.execute_command(*window.arguments(script_calls.grouped(entries)[0]))
        stats: Any = client.info("commandstats")
        spent[way] = stats["cmdstat_xadd" if way == "usual" else "cmdstat_evalsha"]["usec"] / (len(calls) * batch)
    return spent


@click.command(help=__doc__)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, as_json: bool) -> None:
    """Measure, print."""
    rows: dict[str, dict[int, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(valkey_binary(), Path(folder), appendonly="no")
        try:
            for batch in track(BATCHES, "measuring", console=Console(stderr=True), transient=True):
                for step in steps(batch):
                    rows.setdefault(step.name, {})[batch] = {
                        "usual": best(step.usual) / batch,
                        "here": best(step.ours) / batch,
                    }
                with Redis.from_url(server.url) as client:
                    rows.setdefault("script, in Redis", {})[batch] = in_redis(client, batch)
        finally:
            server.kill()
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table(title="µs an event, the usual way → here")
    table.add_column("step")
    for batch in BATCHES:
        table.add_column(f"{batch} a callback", justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{cost['usual']:.1f} → {cost['here']:.1f}" for cost in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
