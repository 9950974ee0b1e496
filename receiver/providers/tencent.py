"""Tencent Cloud SMS: arrays of status reports, and single replies, as JSON.

https://www.tencentcloud.com/document/product/382/59178 (status), …/59179 (reply). An array is a batch of status
reports, an object a single reply. Single reports and mixed arrays are accepted too. Requests are not signed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec
from marshmallow import INCLUDE, Schema, ValidationError, fields, validate
from msgspec import UNSET

from receiver.events import Event, EventType, ReplyData, ReportData, encode, utc
from receiver.providers.base import DELIVERED, FAILED, JSON, SMPP_STATES, Answer, Outcome
from receiver.providers.fields import BEIJING, LAST_SECOND, any_json
from receiver.providers.item_types import ItemProvider, ItemType
from receiver.providers.json_items import bound_nesting

NATION_CODE: Final = validate.Regexp(r"[0-9]{1,4}\Z", error="Not a country code: 1 to 4 digits, such as 86.")
_OUTCOMES: Final[dict[str, Outcome]] = {"SUCCESS": DELIVERED, "FAIL": FAILED}
#: Codes of carriers, of which there are hundreds; these are the most frequent.
#: https://www.tencentcloud.com/document/product/382/35462, https://cloud.tencent.com/document/product/382/59177
_CARRIERS: Final = (
    "SUBFAIL COMFAIL WTNFAIL NOROUTE BEYONDN ERR_NUM TUIDING HIGRISK BWLIST W-BLACK MX:0003 MX:0011 MX:0012 XL:169"
    " LT:0002 MK:0000 MK:0001 MK:0004 MK:0005 MK:0010 MK:0012 MK:0013 MK:0015 MK:0017 MK:0036 MI:0000 MI:0013 MI:0024"
    " MI:0029 MI:0036 MN:0001 MN:0012 MN:0017 MN:0019 MN:0020 MN:0054 MC:0001 MC:0055 MC:0151 MB:1042 MB:1077 DB:0141"
    " DB:0144 DB:0164 UNDELIV_601 UNDELIV_702 EXPIRED_601 EXPIRED_999 REJECTD_006 REJECTD_706"
)


class SessionContext(fields.Field[Any]):
    """``ext``: the sender's own context. A string in the documentation, an object in real payloads."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:  # noqa: ANN401, ARG002 marshmallow's
        if isinstance(value, str):
            return value
        if isinstance(value, dict):
            bound_nesting(value)
            return value
        raise ValidationError("Not a string or an object.")


class StatusReport(Schema):
    """One element of a status callback. Unknown fields are kept."""

    class Meta:
        unknown = INCLUDE

    # No zone is documented. Tencent's pull API returns times both as text and in Unix seconds: the text is UTC+8.
    user_receive_time = fields.AwareDateTime(
        required=True,
        format="%Y-%m-%d %H:%M:%S",
        default_timezone=BEIJING,
        validate=validate.Range(datetime(1970, 1, 2, tzinfo=UTC)),
        error_messages={"invalid": "Not a valid time; it is written 2015-10-17 08:03:04, at UTC+8."},
    )
    nationcode = fields.String(required=True, validate=NATION_CODE)
    mobile = fields.String(required=True, validate=validate.Length(1, 32))
    report_status = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES]))
    errmsg = fields.String(required=True)
    description = fields.String(required=True)
    sid = fields.String(required=True, validate=validate.Length(1, 128))
    ext = SessionContext(allow_none=True)
    #: International messages, from 1 December 2026 on: https://cloud.tencent.com/announce/detail/2540.
    sub_error = any_json()
    sub_error_desc = any_json()


class Reply(Schema):
    """A reply callback. Unknown fields are kept."""

    class Meta:
        unknown = INCLUDE

    extend = fields.String(allow_none=True)
    mobile = fields.String(required=True, validate=validate.Length(1, 32))
    nationcode = fields.String(required=True, validate=NATION_CODE)
    sign = fields.String(required=True)
    text = fields.String(required=True)
    time = fields.Integer(required=True, strict=True, validate=validate.Range(0, LAST_SECOND))


class StatusReportItem(Protocol):
    """A status report as loaded from its schema."""

    user_receive_time: datetime
    nationcode: str
    mobile: str
    report_status: str
    errmsg: str
    description: str
    sid: str
    ext: str | dict[str, Any] | msgspec.UnsetType | None
    sub_error: Any
    sub_error_desc: Any


class ReplyItem(Protocol):
    """A reply as loaded from its schema."""

    extend: str | msgspec.UnsetType | None
    mobile: str
    nationcode: str
    sign: str
    text: str
    time: int


@lru_cache(maxsize=8192)
def _utc_text(moment: datetime) -> str:
    return utc(int(moment.timestamp()))


def _report(_provider: ItemProvider, item: StatusReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES[item.report_status]
    time = _utc_text(item.user_receive_time)
    data = ReportData(
        event_type=event_type,
        message_id=item.sid,
        status=status,
        status_desc=item.errmsg,
        description=item.description,
        nation_code=item.nationcode,
        mobile=item.mobile,
        deliver_time=time,
    )
    context = item.ext
    if context is not UNSET and context is not None:
        data.session_context = context
    if not (item.sub_error is item.sub_error_desc is UNSET):
        named = {"sub_error": item.sub_error, "sub_error_desc": item.sub_error_desc}
        # Null as well, as for an unknown field: the id of an event does not depend on the version that receives it.
        extra = {**{name: value for name, value in named.items() if value is not UNSET}, **(extra or {})}
    if extra:
        data.extra = extra
    return Event(event_type, time, encode(data), code=data.status_desc)


def _reply(provider: ItemProvider, item: ReplyItem, extra: dict[str, Any] | None) -> Event:
    time = utc(item.time)
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.text,
        sign=item.sign,
        nation_code=item.nationcode,
        mobile=item.mobile,
        deliver_time=time,
    )
    if provider.sign_id is not None:
        data.sign_id = provider.sign_id
    if item.extend is not msgspec.UNSET and item.extend is not None:
        data.extend_code = item.extend
    if extra:
        data.extra = extra
    return Event(EventType.REPLY, time, encode(data))


class Tencent(ItemProvider):
    """The provider ``tencent``."""

    name = "tencent"
    title = "Tencent Cloud SMS"
    ack = Answer(200, b'{"result":0,"errmsg":"OK"}', JSON)
    codes = SMPP_STATES.union(_CARRIERS.split(), ("BWLIST _006", "MOBILE BLACK"))
    item_types = (
        ItemType(StatusReport, ("report_status", "sid", "user_receive_time"), _report),
        ItemType(Reply, ("text", "sign", "time", "extend"), _reply),
    )
    unlike = "neither a status report (it would have report_status and sid) nor a reply (text, time)"

    def refuse(self, status: int, message: str) -> Answer:
        """Return the status as the result, with the error message."""
        return Answer(status, msgspec.json.encode({"result": status, "errmsg": message}), JSON)
