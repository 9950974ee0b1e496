"""Several recipients with one message id, and states that are not final."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from receiver.lookups.decoding import status_of
from receiver.lookups.messages import Messages, Missing, SentMessage
from receiver.lookups.reports import Report, ReportQuery, Reports, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

NOW = int(time.time() * 1000)
FIRST, SECOND = "13800138000", "13900139000"


def came(mobile: str, status: int = 1, nation_code: str | None = "86", **more: Any) -> Status:
    return Status("m", status, NOW, nation_code=nation_code, mobile=mobile, shared_id=True, **more)


def sent(mobile: str, **more: Any) -> SentMessage:
    return SentMessage(**{"message_id": "m", "message": "t", "mobile": mobile, "submit_time": NOW} | more)


async def found(redis: Redis, **more: Any) -> list[Report]:
    query = {"sign_id": "d", "start_ms": 0, "end_ms": NOW + 10} | more
    return await Reports(redis).find("p", ReportQuery(**query), "d")


async def test_two_phones_with_one_id_are_two_reports(lookups_redis: Redis) -> None:
    """Each found by the id, by the number, and by both."""
    await Reports(lookups_redis).apply("p", [came(FIRST), came(SECOND, 2, status_desc="X"), came(FIRST)])
    assert [(report.mobile, report.status) for report in await found(lookups_redis)] == [(SECOND, 2), (FIRST, 1)]
    for query, mobiles in (
        ({"message_id": "m"}, [SECOND, FIRST]),
        ({"message_id": "m", "offset": 1}, [FIRST]),
        ({"message_id": "m", "limit": 1}, [SECOND]),
        ({"message_id": "m", "status": 1}, [FIRST]),
        ({"mobile": FIRST}, [FIRST]),
        ({"message_id": "m", "mobile": f"+86{SECOND}"}, [SECOND]),
        ({"message_id": "m", "mobile": "1"}, []),
        ({"message_id": "n"}, []),
        ({"message_id": "m", "sign_id": "another"}, []),
    ):
        reports = await found(lookups_redis, **query)
        assert [report.mobile for report in reports] == mobiles, query
        assert {report.message_id for report in reports} <= {"m"}


async def test_a_thousand_recipients_are_paged(lookups_redis: Redis) -> None:
    reports = [came(f"13{i:09}", 1 + i % 2)._replace(deliver_time=NOW - i) for i in range(1000)]
    await Reports(lookups_redis).apply("p", reports)
    page = await found(lookups_redis, message_id="m", offset=500, limit=3)
    assert [report.mobile for report in page] == ["13000000500", "13000000501", "13000000502"]
    page = await found(lookups_redis, message_id="m", status=2, offset=499)
    assert [report.mobile for report in page] == ["13000000999"]


async def test_numbers_that_differ_in_their_country_alone_are_two(lookups_redis: Redis) -> None:
    reports = [came("2125551234", 1, "1"), came("2125551234", 2, "44")]
    await Reports(lookups_redis).apply("p", [*reports, *reports])
    both = await found(lookups_redis, message_id="m")
    assert {(report.nation_code, report.status) for report in both} == {("1", 1), ("44", 2)}
    (one,) = await found(lookups_redis, message_id="m", mobile="+442125551234")
    assert (one.message_id, one.status) == ("m", 2)
    assert len(await found(lookups_redis, message_id="m", mobile="2125551234")) == 2


@pytest.mark.parametrize("first", ["registrations", "reports"])
async def test_registrations_of_several_mobiles_meet_their_reports(lookups_redis: Redis, first: str) -> None:
    """Whichever comes first, and also for the first message of a project."""
    messages, reports = Messages(lookups_redis), Reports(lookups_redis)
    both = [came(FIRST), came(SECOND, 2)]
    if first == "reports":
        await reports.apply("p", both)
    assert await messages.register("p", [sent(FIRST, extend_code="1"), sent(SECOND, extend_code="2", fee_num=7)])
    if first == "registrations":
        await reports.apply("p", both)
    rows = [(report.mobile, report.status, report.extend_code, report.fee_num) for report in await found(lookups_redis)]
    assert rows == [(SECOND, 2, "2", 7), (FIRST, 1, "1", 1)]
    assert await messages.text("p", "m") == "t"
    assert await lookups_redis.keys("{lookups:p}:p:*") == []


async def test_whether_a_text_has_expired_is_known_of_recipients_too(lookups_redis: Redis) -> None:
    messages = Messages(lookups_redis)
    await Reports(lookups_redis).apply("p", [came(FIRST), came(SECOND)])
    assert await messages.text("p", "m") is Missing.UNKNOWN
    await messages.register("p", [sent(SECOND, submit_time=1)])
    assert await messages.text("p", "m") is Missing.EXPIRED


@pytest.mark.parametrize("order", [1, -1])
async def test_a_message_of_another_provider_meets_its_registration(lookups_redis: Redis, order: int) -> None:
    """In a project that has reports of both."""
    await Reports(lookups_redis).apply("p", [Status("b", 1, NOW, mobile="1", shared_id=True)])
    steps: list[Any] = [sent(SECOND, message_id="sid", extend_code="1"), Status("sid", 1, NOW, mobile=SECOND)]
    for step in steps[::order]:
        if isinstance(step, Status):
            await Reports(lookups_redis).apply("p", [step])
        else:
            await Messages(lookups_redis).register("p", [step])
    (report,) = await found(lookups_redis, message_id="sid")
    assert (report.status, report.extend_code, report.message_id) == (1, "1", "sid")
    assert len(await found(lookups_redis)) == 2


async def test_reports_of_recipients_expire_whole(lookups_redis: Redis) -> None:
    reports = Reports(lookups_redis)
    await reports.apply("p", [came(FIRST)._replace(deliver_time=1), came(SECOND)._replace(deliver_time=1)])
    assert await reports.expire() == 2
    assert {key.decode() for key in await lookups_redis.keys("*")} == {"lookups:projects", "{lookups:p}:shared"}


async def test_status_0_makes_a_report_and_never_overrides_a_final_one(
    lookups_redis: Redis, snapshot: Callable[..., Any]
) -> None:
    reports = Reports(lookups_redis)
    pending = Status("m", 0, NOW, "Queued", mobile="1", submit_time=NOW - 5)
    assert await reports.apply("p", [pending, pending]) == 1
    (report,) = await found(lookups_redis)
    assert (report.status, report.status_desc, report.deliver_time, report.submit_time) == (0, None, None, NOW - 5)
    assert await found(lookups_redis, start_ms=NOW - 5, end_ms=NOW - 5, message_id="m") == [report]
    await reports.apply("p", [Status("m", 2, NOW - 60_000, "EXPIRED", mobile="1")])
    before = await snapshot(lookups_redis, "{lookups:p}")
    assert await reports.apply("p", [pending._replace(deliver_time=NOW + 5)]) == 0
    assert await snapshot(lookups_redis, "{lookups:p}") == before
    await reports.apply("p", [Status("n", 0, NOW - 7)])
    (report,) = await found(lookups_redis, start_ms=NOW - 7, end_ms=NOW - 7)
    assert (report.message_id, report.submit_time) == ("n", None)


def event(kind: str, source: str = "/tencent/p", moment: str = "2026-03-01T02:00:00Z", **data: object) -> Any:
    envelope = {"type": kind, "source": source, "time": moment, "data": {"message_id": "m", **data}}
    return status_of(b"1772330400000-0", {b"data": json.dumps(envelope).encode()})


def test_what_a_provider_does_not_tell_is_none_and_the_time_that_of_receipt() -> None:
    project, status = event("sms_success_event", status_desc="DELIVRD")
    assert (project, status) == ("p", Status("m", 1, 1772330400000, "DELIVRD"))


@pytest.mark.parametrize(
    ("source", "shared"),
    [("/aliyun/p", True), ("/sinch/p", True), ("/messagebird/p", True), ("/telnyx/p", True), ("/amazon-sns/p", True),
     ("/tencent/p", False), ("/twilio/p", False), ("/of-a-later-version/p", False)],
)  # fmt: skip
def test_whether_an_id_is_shared_the_source_tells(source: str, shared: bool) -> None:  # noqa: FBT001 pytest passes it
    assert event("sms_fail_event", source)[1].shared_id is shared


def test_a_submit_time_of_the_future_is_no_time_of_a_report() -> None:
    """Of status 0 it would be, and the report would never expire."""
    assert event("sms_sent_event", submit_time="9999-12-31T23:59:59Z")[1] == Status("m", 0, 1772330400000)
    assert event("sms_sent_event", submit_time="2026-03-01T01:00:00Z")[1].submit_time == 1772326800000
