"""Streams to reports: nothing lost, whoever dies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from receiver.lookups.counts import IndexCounts
from receiver.lookups.group import GROUP, Group
from receiver.lookups.indexer import Indexer
from receiver.lookups.rebuild import rebuild
from receiver.lookups.reports import ReportQuery, Reports
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TOPIC, FAILS = "urn:smn:cn-north-4:p:sms_success", "urn:smn:cn-north-4:p:sms_fail"
START = int(time.time()) - 5000


def iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def event(number: int, kind: str = "sms_success_event", project: str = "p", **more: object) -> bytes:
    when = iso(START + number % 4000)
    data = {"message_id": f"m{number}", "status_desc": "X", "deliver_time": when, "mobile": "1"} | more
    envelope = {"specversion": "1.0", "source": f"/tencent/{project}", "type": kind, "time": when}
    return json.dumps(envelope | {"data": data}).encode()


async def publish(redis: Redis, topic: str, *entries: bytes) -> None:
    pipe = redis.pipeline(transaction=False)
    for entry in entries:
        pipe.xadd(topic, {"data": entry})
    await pipe.execute()


async def visible(redis: Redis, project: str = "p") -> int:
    """Count the reports that can be found, by the pages themselves."""
    reports, found = Reports(redis), 0
    while page := await reports.find(project, ReportQuery(sign_id=None, start_ms=0, end_ms=1 << 50, offset=found)):
        found += len(page)
    return found


async def pending(redis: Redis, topic: str = TOPIC) -> int:
    return int((await redis.xpending(topic, GROUP))["pending"])


@asynccontextmanager
async def running(redis: Redis, consumer: str = "one", **more: Any) -> AsyncIterator[Indexer]:
    options = {"topics": lambda: [TOPIC, FAILS], "log": structlog.get_logger()} | more
    indexer = Indexer(redis, Reports(redis), consumer=consumer, **options)
    task = asyncio.create_task(indexer.run())
    try:
        yield indexer
    finally:
        await cancel_and_wait(task)
        assert task.cancelled()


@asynccontextmanager
async def process(port: int, consumer: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, str(Path(__file__).with_name("worker.py")), str(port), consumer, TOPIC]
    worker = subprocess.Popen(arguments, cwd=Path(__file__).parents[2])  # noqa: ASYNC220 - returns at once
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


async def test_events_become_reports_and_the_rest_is_skipped_or_counted(
    lookups_redis: Redis, until: Callable[..., Any]
) -> None:
    await publish(lookups_redis, TOPIC, event(1), event(2, "sms_reply_event", message_id=None), event(3))
    await publish(lookups_redis, FAILS, event(3, "sms_fail_event"), event(5, "sms_rejected_event"))
    await publish(
        lookups_redis, FAILS, b"\xff{", b"{}", event(6, "else"), event(7, message_id=""), event(8, project="")
    )
    await lookups_redis.xadd(FAILS, {"another": "field"})
    async with running(lookups_redis) as indexer:
        await until(lambda: (indexer.applied, indexer.skipped, indexer.undecodable) == (3, 2, 6))
        assert indexer.claimed == 0
    assert await visible(lookups_redis) == 2
    assert await pending(lookups_redis) == await pending(lookups_redis, FAILS) == 0


# Whoever may write to a topic can add these. The index must go on behind them.
POISON = {
    "bytes that are no text": event(1).replace(b'"m1"', b'"m\xff"'),
    "an unknown field that is nested deeply": event(2).replace(
        b'"data"', b'"x":' + b"[" * 3000 + b"]" * 3000 + b',"data"'
    ),
    "a number that no index can hold": event(3, fee_num=123456789012345678901234567890),
    "less than nothing": event(4, fee_num=-1),
}


@pytest.mark.parametrize("entry", POISON.values(), ids=POISON)
async def test_an_entry_that_cannot_be_read_stops_nothing(
    lookups_redis: Redis, until: Callable[..., Any], entry: bytes
) -> None:
    """It is counted and passed over, by the indexer and by a rebuild, and other projects do not notice."""
    await publish(lookups_redis, TOPIC, entry, event(8), event(9, project="q"))
    async with running(lookups_redis) as indexer:
        await until(lambda: (indexer.applied, indexer.undecodable) == (2, 1))
    assert await pending(lookups_redis) == 0
    assert (await visible(lookups_redis), await visible(lookups_redis, "q")) == (1, 1)
    assert await rebuild(lookups_redis, Reports(lookups_redis), [TOPIC], lambda *_: None) == 2


async def test_entries_that_are_no_events_are_logged_by_topic_with_their_ids_and_nothing_of_their_content(
    lookups_redis: Redis, until: Callable[..., Any]
) -> None:
    """Who wrote them can be found; and a thousand of them at a time are not a thousand lines."""
    ids = [await lookups_redis.xadd(TOPIC, {"data": event(number, "13800138000")}) for number in range(30)]
    (other,) = [await lookups_redis.xadd(FAILS, {"13800138000": "13800138000"})]
    with structlog.testing.capture_logs() as logs:
        async with running(lookups_redis) as indexer:
            await until(lambda: indexer.undecodable == 31)
    found = {log["topic"]: log for log in logs if log["event"] == "indexer.undecodable"}
    assert (found[TOPIC]["count"], found[FAILS]["count"]) == (30, 1)
    assert found[TOPIC]["entry_ids"] == [entry_id.decode() for entry_id in ids[:20]]
    assert found[FAILS]["entry_ids"] == [other.decode()]
    assert "$.type" in found[TOPIC]["reason"]
    assert "13800138000" not in str(logs)
    assert {log["log_level"] for log in found.values()} == {"error"}


async def test_what_all_indexers_have_done_is_counted_together(lookups_redis: Redis) -> None:
    """Over their restarts, and what Redis did not take at first is added later."""
    first, second = IndexCounts(lookups_redis), IndexCounts(lookups_redis)
    assert await first.all() == {"applied": 0, "skipped": 0, "undecodable": 0, "claimed": 0}
    await first.add({"applied": 5, "undecodable": 1})
    await first.add({"applied": 7, "undecodable": 1})
    await lookups_redis.rename("lookups:counts", "kept")
    await lookups_redis.set("lookups:counts", "no hash")
    with pytest.raises(ResponseError):
        await first.add({"applied": 8, "undecodable": 2})
    await lookups_redis.rename("kept", "lookups:counts")
    await first.add({"applied": 9, "undecodable": 2})
    await second.add({"applied": 10, "claimed": 3})
    assert await second.all() == {"applied": 19, "skipped": 0, "undecodable": 2, "claimed": 3}


async def test_a_status_from_the_future_came_when_it_was_added(lookups_redis: Redis, until: Callable[..., Any]) -> None:
    """By Redis' clock. So it expires, and a later true one wins; a day covers every mistaken zone."""
    added, hours = START, 3600
    for number, ahead in ((1, 25 * hours), (2, 23 * hours), (3, None)):
        moment = "9999-12-31T23:59:59Z" if ahead is None else iso(added + ahead)
        await lookups_redis.xadd(TOPIC, {"data": event(number, deliver_time=moment)}, id=f"{added * 1000}-{number}")
    later = event(3, status_desc="TRUE", deliver_time=iso(added + 50))
    await lookups_redis.xadd(TOPIC, {"data": later}, id=f"{(added + 60) * 1000}-0")
    async with running(lookups_redis) as indexer:
        await until(lambda: indexer.applied == 4)
    found = await Reports(lookups_redis).find("p", ReportQuery(sign_id=None, start_ms=0, end_ms=1 << 50))
    assert {report.message_id: report.deliver_time for report in found} == {
        "m1": added * 1000,
        "m2": (added + 23 * hours) * 1000,
        "m3": (added + 50) * 1000,
    }


async def test_a_topic_that_is_added_while_it_runs_is_read_within_a_second(
    lookups_redis: Redis, until: Callable[..., Any]
) -> None:
    topics: list[str] = []
    await publish(lookups_redis, "urn:new", event(1, project="other"))
    async with running(lookups_redis, topics=lambda: tuple(topics)):
        await asyncio.sleep(0.1)
        topics.append("urn:new")
        began = time.monotonic()
        await until(lambda: visible(lookups_redis, "other"))
        assert time.monotonic() - began < 1
        topics.append("urn:newer")
        await publish(lookups_redis, "urn:newer", event(2, project="newer"))
        await until(lambda: visible(lookups_redis, "newer"))


async def test_cancelled_again_and_again_it_loses_nothing(lookups_redis: Redis, until: Callable[..., Any]) -> None:
    await publish(lookups_redis, TOPIC, *[event(i) for i in range(5000)])
    for step in range(6):
        async with running(lookups_redis, "same"):
            await asyncio.sleep(0.01 * step)
    async with running(lookups_redis, "same"):
        await until(lambda: _all_done(lookups_redis, 5000))


async def _all_done(redis: Redis, number: int) -> bool:
    return await pending(redis) == 0 and await visible(redis) == number


@pytest.mark.parametrize("successor", ["killed", "another"])
async def test_killed_in_the_middle_it_loses_nothing(
    lookups_redis: Redis, lookups_port: int, until: Callable[..., Any], successor: str
) -> None:
    """A restarted worker goes on with its own entries; another one takes them over."""
    await publish(lookups_redis, TOPIC, *[event(i) for i in range(20_000)])
    async with process(lookups_port, "killed") as worker:
        await until(lambda: _some(lookups_redis))
        worker.kill()
    assert await visible(lookups_redis) < 20_000
    await _leave_something_pending(lookups_redis, "killed")
    async with running(lookups_redis, successor, claim_after_s=0.05) as indexer:
        await until(lambda: _all_done(lookups_redis, 20_000), 20)
        assert successor == "killed" or indexer.claimed > 0


async def _some(redis: Redis) -> bool:
    return bool(await redis.exists("{lookups:p}:i:0:1"))


async def _leave_something_pending(redis: Redis, consumer: str) -> None:
    """Read a batch and never apply it: the kill may have hit between two batches."""
    await redis.xreadgroup(GROUP, consumer, {TOPIC: ">"}, count=500)


async def test_nothing_is_acknowledged_before_it_is_applied(lookups_redis: Redis, until: Callable[..., Any]) -> None:
    await lookups_redis.set("{lookups:p}:i:0:1", "not a sorted set")
    await publish(lookups_redis, TOPIC, event(1), event(2))
    with structlog.testing.capture_logs() as logs:
        async with running(lookups_redis) as indexer:
            await until(lambda: indexer.paused)
            assert (indexer.applied, await pending(lookups_redis)) == (0, 2)
            await lookups_redis.delete("{lookups:p}:i:0:1")
            await until(lambda: _all_done(lookups_redis, 2))
            await until(lambda: not indexer.paused)
    assert [entry["event"] for entry in logs] == ["indexer.paused", "indexer.resumed"]


async def test_a_cancellation_at_any_moment_ends_it(lookups_port: int) -> None:
    """Also at the one moment of opening a connection at which redis-py loses it."""
    for spins in range(20):
        async with Redis(port=lookups_port) as redis, running(redis):
            for _ in range(spins):
                await asyncio.sleep(0)


async def test_dead_consumers_go_only_when_nothing_of_theirs_is_pending(
    lookups_redis: Redis, until: Callable[..., Any]
) -> None:
    await publish(lookups_redis, TOPIC, event(1))
    await lookups_redis.xgroup_create(TOPIC, GROUP, id="0")
    await lookups_redis.xreadgroup(GROUP, "dead", {TOPIC: ">"})
    async with running(lookups_redis, claim_after_s=0.05) as indexer:
        await until(lambda: indexer.claimed == 1)
        await until(lambda: _consumers(lookups_redis, [b"one"]))
    assert await visible(lookups_redis) == 1


async def test_a_consumer_with_pending_entries_is_never_deleted(lookups_redis: Redis) -> None:
    await publish(lookups_redis, TOPIC, event(1))
    await lookups_redis.xgroup_create(TOPIC, GROUP, id="0")
    await lookups_redis.xreadgroup(GROUP, "pending", {TOPIC: ">"})
    await lookups_redis.xgroup_createconsumer(TOPIC, GROUP, "nothing")
    await lookups_redis.xgroup_createconsumer(TOPIC, GROUP, "me")
    assert await Group(lookups_redis, "me").reap(TOPIC, idle_ms=0) == 1
    assert await _consumers(lookups_redis, [b"me", b"pending"])


async def _consumers(redis: Redis, names: list[bytes]) -> bool:
    return [consumer["name"] for consumer in await redis.xinfo_consumers(TOPIC, GROUP)] == names


async def test_a_live_workers_entries_are_not_claimed(lookups_redis: Redis) -> None:
    await publish(lookups_redis, TOPIC, event(1))
    await lookups_redis.xgroup_create(TOPIC, GROUP, id="0")
    await lookups_redis.xreadgroup(GROUP, "slow", {TOPIC: ">"})
    async with running(lookups_redis) as indexer:
        await asyncio.sleep(0.2)
        assert indexer.claimed == 0
    assert await pending(lookups_redis) == 1


async def test_two_workers_share_the_streams(
    lookups_redis: Redis, lookups_port: int, until: Callable[..., Any]
) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(Redis(port=lookups_port))
        first = await stack.enter_async_context(running(lookups_redis, "one"))
        second = await stack.enter_async_context(running(other, "two"))
        for start in range(0, 6000, 500):
            await publish(lookups_redis, TOPIC, *[event(i) for i in range(start, start + 500)])
        await until(lambda: first.applied + second.applied == 6000)
        assert first.applied > 0 < second.applied
    assert await visible(lookups_redis) == 6000


async def test_a_flushed_redis_is_started_anew(lookups_redis: Redis, until: Callable[..., Any]) -> None:
    async with running(lookups_redis) as indexer:
        await publish(lookups_redis, TOPIC, event(1))
        await until(lambda: indexer.applied == 1)
        await lookups_redis.flushall()
        await publish(lookups_redis, TOPIC, event(2), event(3))
        await until(lambda: visible(lookups_redis))
    assert await visible(lookups_redis) == 2


async def test_redis_goes_away_and_comes_back(
    server: Callable[[int], Any], free_port: int, until: Callable[..., Any]
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with Redis(port=free_port, retry=Retry(NoBackoff(), 0)) as redis:
            with server(free_port):
                async with AsyncExitStack() as stack:
                    indexer = await stack.enter_async_context(running(redis))
                    await publish(redis, TOPIC, event(1))
                    await until(lambda: indexer.applied == 1)
                    away = stack.pop_all()
            await until(lambda: indexer.paused)
            with server(free_port):
                await publish(redis, TOPIC, event(2))
                await until(lambda: indexer.applied == 2)
                await until(lambda: not indexer.paused)
                await away.aclose()
    assert [entry["event"] for entry in logs] == ["indexer.paused", "indexer.resumed"]


async def test_an_entry_trimmed_while_pending_stops_nothing(lookups_redis: Redis, until: Callable[..., Any]) -> None:
    await publish(lookups_redis, TOPIC, event(1), event(2))
    await lookups_redis.xgroup_create(TOPIC, GROUP, id="0")
    await lookups_redis.xreadgroup(GROUP, "one", {TOPIC: ">"})
    await lookups_redis.xtrim(TOPIC, maxlen=1, approximate=False)
    async with running(lookups_redis) as indexer:
        await until(lambda: indexer.applied == 1)
        await until(lambda: _all_done(lookups_redis, 1))
        assert (indexer.skipped, indexer.undecodable) == (1, 0)  # nobody wrote anything wrong


async def test_rebuilding_brings_everything_back_and_tells_how_far_it_is(lookups_redis: Redis) -> None:
    await publish(lookups_redis, TOPIC, *[event(i) for i in range(2500)], b"broken", event(1, "sms_reply_event"))
    await publish(lookups_redis, FAILS, event(9000, "sms_fail_event"))
    progress: list[tuple[int, int]] = []
    reports = Reports(lookups_redis)
    for _ in range(2):
        progress.clear()
        applied = await rebuild(lookups_redis, reports, [TOPIC, "missing", FAILS], lambda *at: progress.append(at))
        assert applied == 2501
        assert await visible(lookups_redis) == 2501
    assert progress == [(1000, 2503), (2000, 2503), (2502, 2503), (2503, 2503)]
