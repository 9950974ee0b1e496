"""An indexer in a process of its own, to be killed: ``worker.py PORT CONSUMER TOPIC``."""

from __future__ import annotations

import asyncio
import sys

import structlog
from redis.asyncio import Redis

from receiver.lookups.indexer import Indexer
from receiver.lookups.reports import Reports


async def main(port: str, consumer: str, topic: str) -> None:
    async with Redis(port=int(port)) as redis:
        log = structlog.get_logger()
        await Indexer(redis, Reports(redis), topics=lambda: [topic], consumer=consumer, log=log).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
