"""Tencent Cloud SMS: status reports in arrays, replies one by one.

https://www.tencentcloud.com/document/product/382/59178 (status), …/59179 (reply). An array is a batch of status
reports and an object one reply; single reports and mixed arrays are taken as well. Nothing is signed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

import msgspec
from marshmallow import INCLUDE, Schema, ValidationError, fields, validate

from receiver.events import (
    DELIVERED,
    FAILED,
    Event,
    EventType,
    ReplyData,
    ReportData,
    encode,
    utc,
)
from receiver.providers.base import Kind, SchemaReader
from receiver.providers.items import bound_nesting

#: ``user_receive_time`` has no zone; Tencent's pull API gives the same moments as text and as Unix seconds: UTC+8.
BEIJING: Final = timezone(timedelta(hours=8))
#: 9999-12-31T23:59:59Z, the last moment that has four digits of a year.
_LAST_SECOND: Final = 253402300799

NATION_CODE: Final = validate.Regexp(r"[0-9]{1,4}\Z", error="Not a country code: 1 to 4 digits, such as 86.")
STATUS: Final = {
    "SUCCESS": (EventType.SUCCESS, DELIVERED),
    "FAIL": (EventType.FAIL, FAILED),
}


class SessionContext(fields.Field[Any]):
    """``ext``: what the sender gave along. A string in the document, an object in the wild."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:  # noqa: ANN401, ARG002 marshmallow's
        if isinstance(value, str):
            return value
        if isinstance(value, dict):
            bound_nesting(value)
            return value
        raise ValidationError("Not a string or an object.")


class StatusReport(Schema):
    """One element of a status callback."""

    class Meta:
        """A field that Tencent adds one day is kept, not refused."""

        unknown = INCLUDE

    user_receive_time = fields.AwareDateTime(
        required=True,
        format="%Y-%m-%d %H:%M:%S",
        default_timezone=BEIJING,
        validate=validate.Range(datetime(1970, 1, 2, tzinfo=UTC)),
        error_messages={"invalid": "Not a valid time; it is written 2015-10-17 08:03:04, at UTC+8."},
    )
    nationcode = fields.String(required=True, validate=NATION_CODE)
    mobile = fields.String(required=True, validate=validate.Length(1, 32))
    report_status = fields.String(required=True, validate=validate.OneOf(list(STATUS)))
    errmsg = fields.String(required=True)
    description = fields.String(required=True)
    sid = fields.String(required=True, validate=validate.Length(1, 128))
    ext = SessionContext(allow_none=True)


class Reply(Schema):
    """A reply callback."""

    class Meta:
        """As for reports."""

        unknown = INCLUDE

    extend = fields.String(allow_none=True)
    mobile = fields.String(required=True, validate=validate.Length(1, 32))
    nationcode = fields.String(required=True, validate=NATION_CODE)
    sign = fields.String(required=True)
    text = fields.String(required=True)
    time = fields.Integer(required=True, strict=True, validate=validate.Range(0, _LAST_SECOND))


@lru_cache(maxsize=8192)
def _utc_text(moment: datetime) -> str:
    return utc(int(moment.timestamp()))


def _report(item: Any, extra: dict[str, Any] | None, _sign_id: str | None) -> Event:  # noqa: ANN401 a derived struct
    kind, status = STATUS[item.report_status]
    time = _utc_text(item.user_receive_time)
    data = ReportData(
        event_type=kind,
        message_id=item.sid,
        status=status,
        status_desc=item.errmsg,
        description=item.description,
        nation_code=item.nationcode,
        mobile=item.mobile,
        deliver_time=time,
    )
    if item.ext is not msgspec.UNSET and item.ext is not None:
        data.session_context = item.ext
    if extra:
        data.extra = extra
    return Event(kind, time, encode(data))


def _reply(item: Any, extra: dict[str, Any] | None, sign_id: str | None) -> Event:  # noqa: ANN401 a derived struct
    time = utc(item.time)
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.text,
        sign=item.sign,
        nation_code=item.nationcode,
        mobile=item.mobile,
        deliver_time=time,
    )
    if sign_id is not None:
        data.sign_id = sign_id
    if item.extend is not msgspec.UNSET and item.extend is not None:
        data.extend_code = item.extend
    if extra:
        data.extra = extra
    return Event(EventType.REPLY, time, encode(data))


class Tencent(SchemaReader):
    """The provider ``tencent``."""

    name = "tencent"

    def __init__(self) -> None:
        """Derive the decoders from the schemas."""
        super().__init__(
            (
                Kind(StatusReport, ("report_status", "sid", "user_receive_time"), _report),
                Kind(Reply, ("text", "sign", "time", "extend"), _reply),
            ),
            unlike="neither a status report (it would have report_status and sid) nor a reply (text, time)",
        )

    def answer(self, code: int, message: str) -> bytes:
        """Return ``{"result":0,"errmsg":"OK"}`` or the error in the same shape."""
        return msgspec.json.encode({"result": code, "errmsg": message})
