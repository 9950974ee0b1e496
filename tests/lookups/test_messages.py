"""Registration and the text of a message."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from receiver.lookups.messages import Messages, Missing, SentMessage, fee_num
from receiver.lookups.reports import ReportQuery, Reports, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

DAY = 24 * 3600 * 1000
SID = "5000:1045710669157053657849499619"


def now() -> int:
    return int(time.time() * 1000)


def message(message_id: str = SID, **more: Any) -> SentMessage:
    return SentMessage(**{"message_id": message_id, "message": "【华为】你好", "mobile": "13800138000"} | more)


@pytest.mark.parametrize(
    ("characters", "fee"), [(0, 1), (1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (500, 8)]
)
def test_a_text_of_70_characters_costs_one_and_a_longer_one_one_for_each_67(characters: int, fee: int) -> None:
    assert fee_num("字" * characters) == fee


async def test_text_is_there_for_a_day_after_it_was_sent(lookups_redis: Redis) -> None:
    messages = Messages(lookups_redis)
    await messages.register("p", [message(submit_time=now() - DAY + 60_000)])
    assert await messages.text("p", SID) == "【华为】你好"
    ttl = await lookups_redis.pttl(f"{{lookups:p}}:t:{SID}")
    assert 55_000 < ttl <= 60_000


async def test_text_goes_by_itself_and_expired_is_told_from_unknown(lookups_redis: Redis) -> None:
    messages = Messages(lookups_redis)
    await messages.register("p", [message(submit_time=now() - DAY + 300), message("old", submit_time=1)])
    assert await messages.text("p", SID) == "【华为】你好"
    await asyncio.sleep(0.35)
    assert await messages.text("p", SID) is Missing.EXPIRED
    assert await messages.text("p", "old") is Missing.EXPIRED
    assert await messages.text("p", SID.upper() + " ") is Missing.UNKNOWN
    assert await messages.text("another", SID) is Missing.UNKNOWN


async def test_a_report_alone_does_not_make_a_message_known(lookups_redis: Redis) -> None:
    await Reports(lookups_redis).apply("p", [Status(SID, 1, now())])
    assert await Messages(lookups_redis).text("p", SID) is Missing.UNKNOWN


async def test_registering_again_changes_nothing(lookups_redis: Redis, snapshot: Callable[..., Any]) -> None:
    messages = Messages(lookups_redis)
    assert await messages.register("p", [message(), message("other", sign_id="s")]) == [True, True]
    before = await snapshot(lookups_redis, "{lookups:p}")
    await asyncio.sleep(0.01)  # submit_time was left out: it stays that of the first registration
    assert await messages.register("p", [message(), message("other", sign_id="s")]) == [False, False]
    assert await snapshot(lookups_redis, "{lookups:p}") == before


async def test_a_fee_that_was_told_stays_and_one_that_was_counted_follows_the_text(lookups_redis: Redis) -> None:
    messages, reports = Messages(lookups_redis), Reports(lookups_redis)
    long = "t" * 71
    for told, expected in (({"message": long}, 2), ({}, 1), ({"fee_num": 5}, 5), ({}, 5), ({"message": long}, 5)):
        await messages.register("p", [message(**told)])
        for _ in range(2):
            (report,) = await reports.find("p", ReportQuery(sign_id="d", start_ms=0, end_ms=1 << 50), "d")
            assert report.fee_num == expected
            await reports.apply("p", [Status(SID, 1, now(), fee_num=9)])


async def test_a_thousand_messages_in_one_call(lookups_redis: Redis) -> None:
    messages, sent = Messages(lookups_redis), now()
    new = await messages.register("p", [message(str(i), submit_time=sent, fee_num=9) for i in range(1000)])
    assert new == [True] * 1000
    query = ReportQuery(sign_id="mine", start_ms=sent, end_ms=sent, offset=950)
    found = await Reports(lookups_redis).find("p", query, "mine")
    assert [report.message_id for report in found] == sorted(map(str, range(1000)), reverse=True)[950:]
    assert {(report.status, report.fee_num, report.sign_id) for report in found} == {(0, 9, "mine")}


async def test_later_registration_moves_a_report_to_its_signature(lookups_redis: Redis) -> None:
    reports, when = Reports(lookups_redis), now()
    await reports.apply("p", [Status(SID, 2, when, "UNDELIV", mobile="139")])
    query = {"start_ms": when, "end_ms": when}
    assert len(await reports.find("p", ReportQuery(sign_id="default", **query), "default")) == 1
    await Messages(lookups_redis).register("p", [message(sign_id="own")])
    assert await reports.find("p", ReportQuery(sign_id="default", **query), "default") == []
    (found,) = await reports.find("p", ReportQuery(sign_id="own", **query), "default")
    assert (found.status, found.status_desc, found.mobile) == (2, "UNDELIV", "13800138000")
    assert await reports.find("p", ReportQuery(sign_id="own", mobile="139", **query)) == []


async def test_a_new_default_signature_applies_to_what_is_stored(lookups_redis: Redis) -> None:
    reports, when = Reports(lookups_redis), now()
    await reports.apply("p", [Status(SID, 1, when)])
    for default in ("before", "after"):
        query = ReportQuery(sign_id=default, start_ms=when, end_ms=when)
        assert [report.sign_id for report in await reports.find("p", query, default)] == [default]
    assert await reports.find("p", ReportQuery(sign_id="x", start_ms=when, end_ms=when), None) == []


def test_a_time_that_cannot_be_ordered_is_refused() -> None:
    with pytest.raises(ValueError, match="submit_time"):
        message(submit_time=-1)
