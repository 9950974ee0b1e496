"""What the bench of the lookups fills in, publishes and asks for."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from hashlib import md5

from receiver.lookups.messages import SentMessage
from receiver.lookups.reports import ReportQuery, Status

PROJECT = "f96188c7ccaf4ffba0c9aa149ab2bd57"
TOPIC = f"urn:smn:cn-north-4:{PROJECT}:sms_success"
SIGN = "6be340e91e5241e4b5d85837e6709104"
SPAN_MS = 6 * 24 * 3600 * 1000
END = int(time.time()) * 1000
BUSY, QUIET = "13900000000", "13800000001"
TEXT = "【华为云】您的验证码是 123456，请在 5 分钟内完成验证。如非本人操作，请忽略本短信。"  # noqa: RUF001 - Chinese commas


def message_id(number: int) -> str:
    """Return an id as long as Tencent's."""
    return f"14:1{md5(b'%d' % number, usedforsecurity=False).hexdigest()}5e2"


def mobile(number: int, total: int) -> str:
    """One mobile has 2 % of the reports (100,000 of 5,000,000), one has ten."""
    if number % 50 == 0:
        return BUSY
    if number % max(1, total // 10) == 1:
        return QUIET
    return f"137{random.randrange(10**8):08}"  # noqa: S311 - no secret


def status(number: int, total: int) -> Status:
    """Return one of the reports that are spread over six days; 5 % failed."""
    failed = number % 20 == 3  # 5 %
    when = END - SPAN_MS + number * (SPAN_MS // 1000) // total * 1000
    text = "UNDELIV" if failed else "DELIVRD"
    phone = mobile(number, total)
    return Status(message_id(number), 2 if failed else 1, when, text, nation_code="86", mobile=phone)


def sent(number: int, total: int) -> SentMessage:
    """Return what the sending side says of a message."""
    return SentMessage(
        message_id=message_id(number),
        message=TEXT,
        mobile=mobile(number, total),
        nation_code="86",
        sign_id=SIGN,
        submit_time=END - 1000 * (number % 50_000),
    )


def queries(reports: int) -> dict[str, ReportQuery]:
    """Return a query of each kind, with the deepest offset that has a full page."""
    everything = ReportQuery(sign_id="default", start_ms=END - SPAN_MS, end_ms=END)
    busy = replace(everything, mobile=BUSY)
    failed = replace(everything, status=2)
    return {
        "newest": everything,
        "one hour": replace(everything, start_ms=END - 3_600_000),
        "offset 200,000": replace(everything, offset=min(200_000, reports // 2)),
        "offset at the end": replace(everything, offset=reports - 150),
        "status 2": failed,
        "status 2, deep": replace(failed, offset=reports // 20 - 150),
        "status 1, deep": replace(everything, status=1, offset=reports * 19 // 20 - 150),
        "quiet mobile": replace(everything, mobile=QUIET),
        "busy mobile": busy,
        "busy mobile, deep": replace(busy, offset=reports // 50 - 150),
        "busy mobile, status 2": replace(busy, status=2),
        "message_id": replace(everything, message_id=message_id(reports // 2)),
        "nothing": replace(everything, offset=reports * 2),
    }


def event(number: int) -> bytes:
    """Return the stream entry of a report that comes now."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return (
        f'{{"specversion":"1.0","id":"{number:032x}","source":"/tencent/{PROJECT}","type":"sms_success_event",'
        f'"time":"{when}","receivedtime":"{when}","data":{{"event_type":"sms_success_event",'
        f'"message_id":"{message_id(number)}","status":1,"status_desc":"DELIVRD","description":"delivered",'
        f'"nation_code":"86","mobile":"{mobile(number, 10**9)}","deliver_time":"{when}"}}}}'
    ).encode()
