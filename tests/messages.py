"""What Tencent sends, made up for tests, and what comes out of the streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

SUCCESS = "urn:smn:local:default:sms_success"
FAIL = "urn:smn:local:default:sms_fail"
REPLY = "urn:smn:local:default:sms_reply"
QUARANTINE = "urn:smn:local:default:quarantine"
OK = {"result": 0, "errmsg": "OK"}


def report(sid: str = "5000:1", **changes: Any) -> dict[str, Any]:
    """Return a status report; a change to None leaves the field out."""
    fields: dict[str, Any] = {
        "user_receive_time": "2015-10-17 08:03:04",
        "nationcode": "86",
        "mobile": "13800138000",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "description": "用户短信送达成功",
        "sid": sid,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def reply(text: str = "TD", **changes: Any) -> dict[str, Any]:
    """Return a reply; a change to None leaves the field out."""
    fields: dict[str, Any] = {
        "extend": "01",
        "mobile": "13800138000",
        "nationcode": "86",
        "sign": "短信签名",
        "text": text,
        "time": 1457336869,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def body(value: Any) -> bytes:
    """Return a value as the body of a callback."""
    return json.dumps(value, ensure_ascii=False).encode()


async def events(redis: Redis, topic: str) -> list[dict[str, Any]]:
    """Return the events of a topic's stream, oldest first. An entry has the field ``data`` and no other."""
    entries = await redis.xrange(topic)
    assert all(set(fields) == {b"data"} for _, fields in entries)
    return [json.loads(fields[b"data"]) for _, fields in entries]
