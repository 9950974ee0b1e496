"""Measures what an outage costs. Not a test: ``python tests/chaos/measure_outage.py ack``, or another.

``ack``      the time to an ack while Redis is down, at 500 callbacks a second
``backlog``  how long 200,000 spooled events take to drain beside live traffic: ``backlog 1000000`` for more
``memory``   how much the service grows in an outage under as much load as this program can make: ``memory 120``
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from receiver.chaos.harness import Harness

_MIB = 1 << 20


async def ack(folder: Path, seconds: float = 30) -> None:
    """Print percentiles of the ack, with Redis and without."""
    async with Harness(folder, rate=5000, batch=10, max_in_flight=1000) as harness:
        await harness.start_traffic()
        for name in ("with redis", "redis down"):
            await asyncio.sleep(2)
            segment = harness.ack_log.enter(name)
            await asyncio.sleep(seconds)
            harness.ack_log.enter("between")
            times = ", ".join(
                f"p{100 * share:g} {1000 * segment.percentile(share):.1f} ms" for share in (0.5, 0.99, 0.999)
            )
            longest = 1000 * segment.longest()
            _say(f"{name}: {len(segment.acks) / seconds:.0f} callbacks/s, {times}, longest {longest:.1f} ms")
            await harness.valkey.kill()


async def backlog(folder: Path, events: float = 200_000) -> None:
    """Print how long the spool takes to drain, the acks of live traffic beside it, and the memory."""
    async with Harness(folder, rate=40_000, batch=100, max_in_flight=1000) as harness:
        await harness.valkey.kill()
        await harness.start_traffic()
        await harness.until(lambda: harness.ack_log.acknowledged >= events, within=600)
        harness.provider.slow_down(2500, 10)
        await asyncio.sleep(1)
        before, most = harness.service.rss_bytes(), 0
        spooled = harness.spooled()
        segment = harness.ack_log.enter("drain")
        await harness.valkey.start()
        began = time.monotonic()
        cpu = harness.service.cpu_seconds()
        while (
            "spool.drained" not in harness.service.log.read_text()
        ):  # counting events on disk would slow the drain down
            most = max(most, harness.service.rss_bytes())
            await asyncio.sleep(0.1)
        took = time.monotonic() - began
        cpu = harness.service.cpu_seconds() - cpu
        await harness.stop_traffic()
        comparison = await harness.comparison()
        _say(
            f"{spooled:,} spooled events drained in {took:.1f} s from Redis' start; live acks meanwhile: "
            f"{len(segment.acks) / took:.0f}/s, p99 {1000 * segment.percentile(0.99):.1f} ms, longest "
            f"{1000 * segment.longest():.0f} ms; processor: service {cpu:.1f} s, "
            f"Valkey {harness.valkey.cpu_seconds():.1f} s; memory {before / _MIB:.0f} MiB, at most {most / _MIB:.0f}; "
            f"missing {len(comparison.missing)}, doubled {len(comparison.doubled)}"
        )
        _say("\n".join(line for line in harness.service.log.read_text().splitlines() if "spool.drained" in line)[:400])


async def memory(folder: Path, seconds: float = 120) -> None:
    """Print the service's memory while Redis is down, under full load."""
    async with Harness(folder, rate=60_000, batch=100, max_in_flight=1000) as harness:
        await harness.start_traffic()
        await asyncio.sleep(5)
        before = harness.service.rss_bytes()
        _say(f"with redis: {before / _MIB:.1f} MiB after {harness.ack_log.acknowledged:,} events")
        await harness.valkey.kill()
        for part in range(1, 7):
            await asyncio.sleep(seconds / 6)
            grown = (harness.service.rss_bytes() - before) / _MIB
            _say(
                f"{part * seconds / 6:4.0f} s down: {grown:+.1f} MiB, "
                f"{harness.ack_log.acknowledged:,} events acknowledged"
            )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    command = {"ack": ack, "backlog": backlog, "memory": memory}[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder_, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(command(Path(folder_), *map(float, sys.argv[2:])))
