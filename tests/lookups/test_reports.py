"""What a report's state is, how it is found, and when it goes."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from receiver.lookups.messages import Messages, SentMessage
from receiver.lookups.reports import ReportQuery, Reports, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

HOUR = 3600 * 1000
NOW = int(time.time() * 1000)


def query(**more: Any) -> ReportQuery:
    return ReportQuery(**{"sign_id": "s", "start_ms": 0, "end_ms": 1 << 60} | more)


async def only(reports: Reports, **more: Any) -> Any:
    (found,) = await reports.find("p", query(**more), "s")
    return found


async def test_state_never_goes_backwards(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    await reports.apply("p", [Status("m", 1, NOW, "DELIVRD")])
    assert await reports.apply("p", [Status("m", 2, NOW - 1000, "EXPIRED")]) == 0
    assert await reports.apply("p", [Status("m", 2, NOW, "EXPIRED")]) == 0
    await Messages(lookups_redis).register("p", [SentMessage(message_id="m", message="t", mobile="1")])
    assert (await only(reports)).status == 1
    assert await reports.apply("p", [Status("m", 2, NOW + 1000, "EXPIRED")]) == 1
    assert await only(reports) == await only(reports, status=2, mobile="1", message_id="m")
    assert await reports.find("p", query(status=1), "s") == []


async def test_the_same_event_twice_changes_nothing(lookups_redis: Redis, snapshot: Callable[..., Any]) -> None:
    reports, status = Reports(lookups_redis), Status("m", 2, NOW, "X", mobile="1", nation_code="86")
    assert await reports.apply("p", [status, status]) == 1
    before = await snapshot(lookups_redis, "{lookups:p}")
    assert await reports.apply("p", [status]) == 0
    assert await snapshot(lookups_redis, "{lookups:p}") == before


async def test_beyond_the_retention_a_report_is_not_found_and_its_memory_is_freed(
    lookups_redis: Redis,
) -> None:
    reports, messages = Reports(lookups_redis, timedelta(hours=1)), Messages(lookups_redis)
    old = [Status(str(i), 1 + i % 2, NOW - HOUR - 60_000, mobile=str(i % 7)) for i in range(700)]
    await reports.apply("p", [*old, Status("new", 1, NOW, mobile="1")])
    await messages.register(
        "q", [SentMessage(message_id="x", message="t", mobile="1", sign_id="z", submit_time=NOW - 2 * HOUR)]
    )
    assert (await only(reports)).message_id == "new"
    assert await reports.expire(limit=200) == 250
    assert [await reports.expire(), await reports.expire()] == [451, 0]
    assert (await only(reports, mobile="1")).message_id == "new"
    await lookups_redis.delete("{lookups:q}:t:x", "{lookups:q}:signs", "lookups:projects")
    assert await lookups_redis.dbsize() == 3  # a record, its time and its mobile


async def test_expiring_reaches_projects_of_other_processes(lookups_redis: Redis) -> None:
    await Reports(lookups_redis).apply("gone", [Status("m", 1, 0)])
    assert await Reports(lookups_redis).expire() == 1


async def test_times_are_inclusive_and_huge_ones_harmless(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    await reports.apply("p", [Status("m", 1, NOW, mobile="1")])
    for more in ({}, {"mobile": "1"}, {"message_id": "m"}):
        assert await only(reports, start_ms=NOW, end_ms=NOW, **more)
        assert await reports.find("p", query(start_ms=NOW + 1, **more), "s") == []
        assert await reports.find("p", query(end_ms=NOW - 1, **more), "s") == []
        assert await reports.find("p", query(start_ms=1 << 70, end_ms=1 << 80, **more), "s") == []


async def test_ids_are_opaque(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    ids = ["14:19325917feb3914eb78b50d6182d7e452e", "a", "A", " a", "a ", "字" * 128, "007", "7", "a\u0301"]
    await reports.apply("p", [Status(message_id, 1, NOW) for message_id in ids])
    for message_id in ids:
        assert (await only(reports, message_id=message_id)).message_id == message_id
    found = [report.message_id for report in await reports.find("p", query(), "s")]
    assert found == sorted(ids, key=str.encode, reverse=True)


async def test_one_busy_mobile_is_paged_exactly(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    busy = [Status(f"{i:05}", 1 + i % 2, NOW - i, mobile="1") for i in range(3000)]
    await reports.apply("p", busy)
    assert [r.message_id for r in await reports.find("p", query(mobile="1", offset=2000, limit=3), "s")] == [
        "02000",
        "02001",
        "02002",
    ]
    assert (await reports.find("p", query(mobile="1", status=2, offset=1499), "s"))[0].message_id == "02999"
    assert await reports.find("p", query(mobile="1", offset=3000), "s") == []


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 101}, {"offset": -1}, {"status": 3}])
def test_what_would_be_unbounded_or_senseless_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"SMN\.00"):
        query(**wrong)


@pytest.mark.parametrize("days", [0, 93])
def test_retention_is_bounded(lookups_redis: Redis, days: int) -> None:
    with pytest.raises(ValueError, match="retention"):
        Reports(lookups_redis, timedelta(days=days))
