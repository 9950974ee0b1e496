"""``receiver index``: the report index as a process of its own, and how to rebuild and drop it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click
from redis.exceptions import RedisError

from receiver import log
from receiver.cli.connections import connected, load_overrides, redis_url, run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.index_topics import TopicsOfConfiguration, TopicsOfService
from receiver.cli.options import json_option, yes_option
from receiver.cli.output import console, echo_json
from receiver.cli.progress import bar
from receiver.errors import ReceiverError
from receiver.lookups.counts import IndexCounts
from receiver.lookups.drop import ACTIVE_MS, active_consumer, delete_keys, destroy_group, index_groups
from receiver.lookups.group import GROUP
from receiver.lookups.indexer import Indexer
from receiver.lookups.rebuild import rebuild as rebuild_index
from receiver.lookups.reports import Reports
from receiver.redis_client import connect, open_client
from receiver.routing import Routing
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from receiver.log import Logger
    from receiver.settings import Settings

#: Seconds between steps that delete reports older than the retention.
_EXPIRE_EVERY: Final = 5.0
_EXPIRE_STEP: Final = 5000
#: Seconds between updates of the counts in Redis, and for Redis to answer one.
_COUNT_EVERY: Final = 1.0
_COUNT_TIMEOUT: Final = 2.0
#: Niceness of an index that runs beside a service: callbacks come first.
_NICE: Final = 10


@click.group(invoke_without_command=True)
@click.option("--beside", type=int, metavar="PID", help="Run at lower priority than this process, and end with it.")
@with_environment
@click.pass_context
def index(context: click.Context, environment: Environment, beside: int | None) -> None:
    """Maintain the report index, from which ListSmsMsgReport answers.

    `receiver serve` starts an index with the first look-up. To scale the index separately, set RECEIVER_INDEX=0 for
    `receiver serve`, and run any number of these: they share the work.
    """
    if context.invoked_subcommand is None:
        if beside is not None:
            os.nice(_NICE)
        settings = environment.settings()
        logger = log.configure(settings.log_level)
        source = TopicsOfConfiguration(environment, settings, logger) if beside is None else TopicsOfService()
        run(_index(settings, logger, source))


@index.command()
@json_option
@with_environment
def rebuild(environment: Environment, *, as_json: bool) -> None:
    """Rebuild the index from the streams, as far back as they go. Lookups keep working."""
    applied = run(_rebuild(environment.settings()))
    if as_json:
        echo_json({"events": applied})
    else:
        click.echo(f"{applied:,} status events applied")


@index.command()
@yes_option
@json_option
@with_environment
def drop(environment: Environment, *, yes: bool, as_json: bool) -> None:
    """Remove the index from Redis: its consumer group on every stream, and all its keys.

    Do this after RECEIVER_INDEX=0: a group that nobody reads any more keeps its streams from being trimmed until
    RECEIVER_MAX_ENTRIES. The messages that were registered, and their texts, are gone with it; reports come back with
    `receiver index rebuild` as far back as the streams go. First end every index, with `receiver serve` and `receiver
    index`: one that runs begins again with the first entry. Repeat the command after an interruption.
    """
    settings = environment.settings()
    topics = run(_indexed_topics(settings))
    if not yes:
        what = f"its group on {len(topics)} streams, all reports and registered messages"
        click.confirm(f"Remove the report index from Redis: {what}?", abort=True, err=True)
    keys = run(_drop(settings, topics))
    if as_json:
        echo_json({"group": GROUP, "stream_keys": topics, "keys": keys})
        return
    for topic in topics:
        click.echo(f"{topic}  group {GROUP} destroyed.")
    click.echo(f"{keys:,} keys deleted.")


async def _indexed_topics(settings: Settings) -> list[str]:
    """Return the streams on which the index has its group. Raises ReceiverError if one is being read."""
    async with connected(settings) as client:
        found = await index_groups(client)
    for group in found:
        consumer = active_consumer(group)
        if consumer is not None:
            raise ReceiverError(
                f"an index runs: {consumer} has read {group.topic} in the last {ACTIVE_MS // 1000} s. Set "
                "RECEIVER_INDEX=0 for every `receiver serve` and restart it, end every `receiver index`, and run this "
                "again."
            )
    return [group.topic for group in found]


async def _drop(settings: Settings, topics: list[str]) -> int:
    deleted = 0
    async with connected(settings) as client:
        for topic in topics:  # first: they hold back the trimming
            await destroy_group(client, topic)
        with bar(console(stderr=True)) as progress:
            task = progress.add_task("keys", total=None)
            async for keys in delete_keys(client):
                deleted += keys
                progress.advance(task, keys)
    return deleted


async def _index(settings: Settings, logger: Logger, source: TopicsOfConfiguration | TopicsOfService) -> None:
    client = connect(redis_url(settings))
    reports = Reports(client, timedelta(seconds=settings.report_retention), settings.replicas)
    consumer = f"{socket.gethostname()}-{os.getpid()}"
    indexer = Indexer(client, reports, topics=source.topics, consumer=consumer, log=logger)
    await open_client(client)
    stop = asyncio.Event()
    await source.open(client, stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    counts = IndexCounts(client)
    tasks = [
        asyncio.create_task(indexer.run()),
        asyncio.create_task(_expire(reports, logger)),
        asyncio.create_task(_count(indexer, counts, logger)),
    ]
    logger.info("indexer.started", consumer=consumer)
    await stop.wait()
    await cancel_and_wait(*tasks)
    await _add_counts(indexer, counts, logger)
    await source.close()
    await client.aclose()
    logger.info("indexer.stopped", applied_count=indexer.applied)


async def _expire(reports: Reports, logger: Logger) -> None:
    while True:
        try:
            while await reports.expire(_EXPIRE_STEP) >= _EXPIRE_STEP:
                pass
        except (RedisError, OSError) as error:
            logger.debug("indexer.expire_paused", error=str(error))
        await asyncio.sleep(_EXPIRE_EVERY)


async def _count(indexer: Indexer, counts: IndexCounts, logger: Logger) -> None:
    while True:
        await asyncio.sleep(_COUNT_EVERY)
        await _add_counts(indexer, counts, logger)


async def _add_counts(indexer: Indexer, counts: IndexCounts, logger: Logger) -> None:
    """Add new counts to those in Redis, now or in a later call if Redis is away."""
    try:
        async with asyncio.timeout(_COUNT_TIMEOUT):
            await counts.add(indexer.totals)
    except (RedisError, OSError) as error:
        logger.debug("indexer.count_paused", error=str(error))


async def _rebuild(settings: Settings) -> int:
    async with connected(settings) as client:
        routing = Routing(settings.projects.values())
        await load_overrides(client, routing)
        reports = Reports(client, timedelta(seconds=settings.report_retention), settings.replicas)
        with bar(console(stderr=True)) as progress:
            task = progress.add_task("entries", total=None)
            return await rebuild_index(
                client,
                reports,
                routing.event_topics(),
                lambda done, of: progress.update(task, completed=done, total=of),
            )
