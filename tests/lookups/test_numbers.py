"""A report is found under each spelling of its number, and under no other number."""

from __future__ import annotations

import json
import time
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from receiver.lookups.messages import Messages, SentMessage
from receiver.lookups.rebuild import rebuild
from receiver.lookups.reports import Report, ReportQuery, Reports, Status

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = int(time.time() * 1000)
CHINESE = [("86", "13822220000"), ("86", "8613822220000"), ("86", "+8613822220000"), ("86", "008613822220000")]
SPELLINGS = ["13822220000", "8613822220000", "+8613822220000", "008613822220000", "+86 138-2222-0000", " 8613822220000"]
TAG = "{lookups:p}"

# A report as versions that indexed by spelling have left it: a record with the short header, and its entry under :m.
BY_SPELLING = """
local id, nation, mobile, when = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local function bucket(kind, text)
    return string.format('%s:%s:%x', KEYS[1], kind, tonumber(string.sub(redis.sha1hex(text), 1, 5), 16) % 262144)
end
redis.call('HSET', bucket('r', id), id, '\\154' .. cmsgpack.pack(0, 1, when, 'X', 0, nil, nil, nil, nation, mobile))
redis.call('ZADD', KEYS[1] .. ':i:0:1', when, id)
redis.call('ZADD', bucket('m', mobile), 0, struct.pack('>Bc0I3BI6', #mobile, mobile, 0, 1, when) .. id)
"""


def status(message_id: str, number: tuple[str | None, str | None], **more: Any) -> Status:
    fields = {"status": 1, "deliver_time": NOW, "status_desc": "X", "nation_code": number[0], "mobile": number[1]}
    return Status(message_id=message_id, **(fields | more))  # type: ignore[arg-type]  # from a mapping of several types


def sent(message_id: str, number: tuple[str | None, str], **more: Any) -> SentMessage:
    fields = {"message": "t", "nation_code": number[0], "mobile": number[1], "submit_time": NOW}
    return SentMessage(message_id=message_id, **(fields | more))  # type: ignore[arg-type]  # as above


async def found(reports: Reports, mobile: str | None, **more: Any) -> list[Report]:
    query = ReportQuery(**{"sign_id": "d", "start_ms": 0, "end_ms": 1 << 50, "mobile": mobile} | more)
    return await reports.find("p", query, "d")


async def ids(reports: Reports, mobile: str | None, **more: Any) -> list[str]:
    return [report.message_id for report in await found(reports, mobile, **more)]


async def by_spelling(redis: Redis, message_id: str, nation: str, mobile: str) -> None:
    await redis.eval(BY_SPELLING, 1, TAG, message_id, nation, mobile, NOW)


async def entries(redis: Redis) -> int:
    """Count the entries of the indexes of numbers."""
    return sum([await redis.zcard(key) async for key in redis.scan_iter(f"{TAG}:[mn]:*")])


@pytest.mark.parametrize("asked", SPELLINGS)
async def test_all_spellings_of_a_number_find_all_its_reports(lookups_redis: Redis, asked: str) -> None:
    reports = Reports(lookups_redis)
    await reports.apply("p", [status(f"m{i}", number) for i, number in enumerate(CHINESE)])
    await Messages(lookups_redis).register(
        "p", [sent("m4", (None, "+8613822220000")), sent("m5", ("86", SPELLINGS[0]))]
    )
    assert await ids(reports, asked) == ["m5", "m4", "m3", "m2", "m1", "m0"]
    assert await ids(reports, asked, status=1, offset=1, limit=2) == ["m2", "m1"]
    assert await ids(reports, asked, message_id="m2") == ["m2"]
    assert {(report.nation_code, report.mobile) for report in await found(reports, asked)} == {("86", "13822220000")}


async def test_the_same_national_number_in_two_countries_is_two_numbers(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    await reports.apply("p", [status("us", ("1", "2125551234")), status("gb", ("44", "2125551234"))])
    for asked, expected in (
        ("2125551234", ["us", "gb"]),
        ("+12125551234", ["us"]),
        ("12125551234", ["us"]),
        ("00442125551234", ["gb"]),
        ("+332125551234", []),
    ):
        assert await ids(reports, asked) == expected
        for message_id in ("us", "gb"):
            assert await ids(reports, asked, message_id=message_id) == [message_id] * (message_id in expected)


async def test_a_number_without_a_country_may_be_of_any(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    await Messages(lookups_redis).register("p", [sent("m", (None, "13822220000"))])
    for asked in ("13822220000", "+8613822220000", "+3313822220000", "+13822220000"):
        assert await ids(reports, asked) == ["m"]
    assert await ids(reports, "3822220000") == []


async def test_a_national_number_of_very_many_countries_is_found_in_eight(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    codes = [str(code) for code in range(200, 300)]
    await reports.apply("p", [status(code, (code, "5551234567")) for code in codes])
    assert await ids(reports, "5551234567") == codes[7::-1]
    assert await ids(reports, "5551234567", offset=5) == codes[2::-1]
    assert await ids(reports, "+2215551234567") == ["221"]


@pytest.mark.parametrize("text", ["13xxxxxxxxx", "138****0000", "Example", "+999123", "字"])
async def test_what_is_no_number_is_found_as_it_is_spelled(lookups_redis: Redis, text: str) -> None:
    reports = Reports(lookups_redis)
    await reports.apply("p", [status("m", ("86", text))])
    assert [(report.nation_code, report.mobile) for report in await found(reports, text)] == [("86", text)]
    assert await ids(reports, "13822220000") == await ids(reports, f"+86{text}") == []


@pytest.mark.parametrize(
    ("reported", "registered", "answered"),
    [
        (("86", "13822220000"), (None, "+8613822220000"), ("86", "13822220000")),
        (("86", "13822220000"), (None, "13822220000"), ("86", "13822220000")),
        (("86", "8613822220000"), ("86", "13822220000"), ("86", "13822220000")),
        (("852", "91234567"), (None, "85291234567"), ("852", "91234567")),
        (("86", "138****0000"), ("86", "13822220000"), ("86", "13822220000")),  # a masked report
        (("86", "13822220000"), ("86", "13900000000"), ("86", "13900000000")),  # the sender knows what it sent
        ((None, None), (None, "13822220000"), (None, "13822220000")),
    ],
)
async def test_a_registration_does_not_change_the_spelling(
    lookups_redis: Redis, reported: tuple[str | None, str | None], registered: tuple[str | None, str], answered: object
) -> None:
    """Whatever comes first and whatever is repeated; and no entry of the index is left behind."""
    reports, messages = Reports(lookups_redis), Messages(lookups_redis)
    for order in permutations(["report", "registration", "failure"]):
        await lookups_redis.flushall()
        for step in (*order, *order):
            if step == "registration":
                await messages.register("p", [sent("m", registered)])
            else:
                later = {"status": 2, "deliver_time": NOW + 5} if step == "failure" else {}
                await reports.apply("p", [status("m", reported, **later)])
        (report,) = await found(reports, None)
        assert (report.nation_code, report.mobile, report.status) == (*answered, 2)  # type: ignore[misc]  # two texts
        assert await ids(reports, report.mobile) == ["m"]
        assert await entries(lookups_redis) == 1


async def test_registering_without_a_nation_code_keeps_the_earlier_one(lookups_redis: Redis) -> None:
    reports, messages = Reports(lookups_redis), Messages(lookups_redis)
    for number in (("86", "13822220000"), (None, "13900000000")):
        await messages.register("p", [sent("m", number)])
    assert await ids(reports, "+8613900000000") == ["m"]
    assert await ids(reports, "13822220000") == []


async def test_what_was_indexed_by_spelling_is_found_so_until_it_changes_or_is_rebuilt(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    await by_spelling(lookups_redis, "old", "86", "+8613822220000")
    await reports.apply("p", [status("new", ("86", "13822220000"))])
    assert await ids(reports, "+8613822220000") == ["old", "new"]
    assert await ids(reports, "+8613822220000", offset=1) == ["new"]
    assert await ids(reports, "+8613822220000", message_id="old") == ["old"]
    assert await ids(reports, "13822220000") == ["new"]
    data = {"message_id": "old", "status_desc": "X", "nation_code": "86", "mobile": "+8613822220000"}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW // 1000))
    event = {"source": "/tencent/p", "type": "sms_success_event", "time": when, "data": data}
    await lookups_redis.xadd("topic", {"data": json.dumps(event)})
    await rebuild(lookups_redis, reports, ["topic"], lambda *_: None)
    assert sorted(await ids(reports, "13822220000")) == ["new", "old"]
    assert await entries(lookups_redis) == 2


async def test_a_report_of_both_indexes_is_answered_once(lookups_redis: Redis) -> None:
    """An older version beside this one rewrites a record and indexes it by spelling, but leaves our entry."""
    reports = Reports(lookups_redis)
    await reports.apply("p", [status("m", ("86", "13822220000"), status=2), status("gone", ("86", "13822220000"))])
    await by_spelling(lookups_redis, "m", "86", "13822220000")
    async for key in lookups_redis.scan_iter(f"{TAG}:r:*"):
        await lookups_redis.hdel(key, "gone")
    assert await ids(reports, "13822220000") == ["m"]
    assert await ids(reports, "13822220000", status=2) == []
    await reports.apply("p", [status("m", ("86", "13822220000"), deliver_time=NOW + 1)])
    assert await ids(reports, "+8613822220000") == ["m"]
