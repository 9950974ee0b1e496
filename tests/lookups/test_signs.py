"""Signatures: how many there may be, when they go, and that many of them never hold Redis up."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from receiver.lookups.messages import Messages, Refused, SentMessage
from receiver.lookups.reports import ReportQuery, Reports, Status

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOUR = 3600 * 1000
NOW = int(time.time() * 1000)
SIGNS = "{lookups:p}:signs"
MOST = 10_000
#: Microseconds that no script call may take: some milliseconds, and what a busy machine adds.
LONG = 50_000

# Signatures, each with one report of a status of its own, as they are when nothing has bounded or dropped them.
FILL = """
local when = tonumber(ARGV[3])
for sign = ARGV[1], ARGV[2] do
    local id, status = 'm' .. sign, sign % 3
    local home = string.format('%s:r:%x', KEYS[1], tonumber(string.sub(redis.sha1hex(id), 1, 5), 16) % 262144)
    redis.call('HSET', KEYS[1] .. ':signs', 's' .. id, sign, 'n' .. sign, id)
    redis.call('ZADD', KEYS[1] .. ':i:' .. sign .. ':' .. status, when, id)
    redis.call('HSET', home, id, '\\154' .. cmsgpack.pack(0, status, when, 0, sign, 0, 0, when, 0, false))
end
"""


async def fill(redis: Redis, number: int, when: int) -> None:
    await redis.sadd("lookups:projects", "p")
    for start in range(1, number + 1, 1000):
        await redis.eval(FILL, 1, "{lookups:p}", start, min(start + 999, number), when)


def sent(number: int, sign_id: str | None = None, **more: Any) -> SentMessage:
    return SentMessage(message_id=f"m{number}", message="t", mobile="1", sign_id=sign_id, **more)


async def signs(redis: Redis) -> set[bytes]:
    return {name[1:] for name in await redis.hkeys(SIGNS) if name.startswith(b"s")}


async def longest_call(redis: Redis) -> int:
    """Return the microseconds of the longest script call since the slow log was emptied."""
    calls = [entry for entry in await redis.slowlog_get(1000) if entry["command"].startswith(b"EVAL")]
    return max((int(call["duration"]) for call in calls), default=0)


async def test_a_hundred_thousand_signatures_never_hold_redis_up(lookups_redis: Redis) -> None:
    """Neither with nothing to forget, nor with everything; and in the end none is left."""
    reports = Reports(lookups_redis, timedelta(hours=1))
    await fill(lookups_redis, 100_000, NOW)
    await lookups_redis.config_set("slowlog-log-slower-than", 1000)
    await lookups_redis.slowlog_reset()
    for _ in range(5):
        assert await reports.expire() == 0
    await fill(lookups_redis, 2000, NOW - 2 * HOUR)
    await lookups_redis.slowlog_reset()
    assert sum([await reports.expire() for _ in range(40)]) == 2000
    assert await longest_call(lookups_redis) < LONG
    assert len(await signs(lookups_redis)) == 98_000


async def test_a_signature_without_reports_goes_and_its_number_is_not_given_again(lookups_redis: Redis) -> None:
    reports, messages = Reports(lookups_redis, timedelta(hours=1)), Messages(lookups_redis)
    old = {"submit_time": NOW - 2 * HOUR}
    await messages.register("p", [sent(1, "kept"), sent(2, "old", **old), sent(3, "moved"), sent(4, "last", **old)])
    await messages.register("p", [sent(3, "kept")])
    assert await reports.expire() == 2
    assert await signs(lookups_redis) == {b"kept"}
    await messages.register("p", [sent(5, "new"), sent(6, "old")])
    numbers = {name: number async for name, number in lookups_redis.hscan_iter(SIGNS, "s*")}
    assert numbers == {b"skept": b"1", b"snew": b"5", b"sold": b"6"}
    for sign_id, ids in (("kept", ["m3", "m1"]), ("old", ["m6"]), ("new", ["m5"])):
        query = ReportQuery(sign_id=sign_id, start_ms=0, end_ms=1 << 50)
        assert [report.message_id for report in await reports.find("p", query)] == ids


async def test_numbers_begin_anew_after_the_last_one_without_taking_a_live_one(lookups_redis: Redis) -> None:
    messages = Messages(lookups_redis)
    await messages.register("p", [sent(1, "first")])
    await lookups_redis.hset(SIGNS, "last", (1 << 24) - 2)
    await messages.register("p", [sent(2, "a"), sent(3, "b")])
    assert [await lookups_redis.hget(SIGNS, name) for name in ("sfirst", "sa", "sb")] == [b"1", b"16777215", b"2"]


async def test_signatures_of_before_numbers_were_counted_keep_theirs(lookups_redis: Redis) -> None:
    await fill(lookups_redis, 3, NOW)
    await Messages(lookups_redis).register("p", [sent(9, "new")])
    assert await lookups_redis.hget(SIGNS, "snew") == b"4"


async def test_one_signature_too_many_is_refused_and_harms_no_other(lookups_redis: Redis) -> None:
    reports, messages = Reports(lookups_redis), Messages(lookups_redis)
    many = [sent(number, f"s{number}", submit_time=NOW - number) for number in range(MOST + 1)]
    assert await messages.register("p", many) == [True] * MOST + [Refused.SIGNATURE]
    again = [sent(0, "s0"), sent(-1, "more"), sent(-2)]
    assert await messages.register("p", again) == [False, Refused.SIGNATURE, True]
    assert await messages.text("p", "m-1") == "unknown"
    assert len(await signs(lookups_redis)) == MOST
    await reports.apply("p", [Status("m-3", 1, NOW, sign_id="more")])
    (report,) = await reports.find("p", ReportQuery(sign_id="d", start_ms=NOW, end_ms=NOW, status=1), "d")
    assert report.message_id == "m-3"


async def test_every_signature_has_its_turn(lookups_redis: Redis) -> None:
    """Although one turn does not reach them all, and signatures come and go in between."""
    reports, messages = Reports(lookups_redis, timedelta(hours=1)), Messages(lookups_redis)
    await fill(lookups_redis, 9000, NOW)
    await messages.register("p", [sent(-1, "old", submit_time=NOW - 2 * HOUR)])
    forgotten = 0
    for turn in range(6):
        forgotten += await reports.expire()
        await messages.register("p", [sent(-10 - turn, f"between{turn}")])
    assert forgotten == 1
