"""Alibaba Cloud (Aliyun) SMS: arrays of status reports, and arrays of replies, as JSON.

https://help.aliyun.com/document_detail/101867.html (SmsReport), https://help.aliyun.com/document_detail/60127.html
(SmsUp), https://www.alibabacloud.com/help/doc-detail/409034.htm (international SmsReport).

Reports inside and outside of mainland China differ in format, and may share the URL with replies. ``biz_id`` identifies
the send request: together with the number it identifies a message. Times without a zone are UTC+8. All states are
final, and requests are not signed. Aliyun recognises the ack by its numeric ``code``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from marshmallow import fields, validate

from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import DELIVERED, FAILED, JSON, SMPP_STATES, Answer, Outcome
from receiver.providers.fields import BEIJING, Label, UtcTime, nation_code, segments, text_form
from receiver.providers.item_types import ItemProvider, ItemSchema, ItemType, kept

if TYPE_CHECKING:
    from datetime import datetime

_INTERNATIONAL: Final[dict[str, Outcome]] = {"1": DELIVERED, "2": FAILED, "6": FAILED}  # 6: expired
_written = text_form("%Y-%m-%d %H:%M:%S", BEIJING)
_compact = text_form("%Y%m%d%H%M%S", BEIJING)
_TIME: Final = (_written, "2026-03-01 10:00:03, at UTC+8")
_RFC_TIME: Final = (text_form("%a, %d %b %Y %H:%M:%S %z"), "Sun, 01 Mar 2026 10:25:33 +0800")


def _reply_time(value: Any) -> datetime:  # noqa: ANN401 any JSON
    """Parse the time of a reply. In 2017 the format was 20170901000000."""
    return _compact(value) if isinstance(value, str) and value.isdecimal() else _written(value)


class Report(ItemSchema):
    """A status report. Only messages of the SendMessage API have the last four fields."""

    phone_number = fields.String(required=True, validate=validate.Length(1, 32))
    success = fields.Boolean(required=True, truthy={True, "true"}, falsy={False, "false"})
    err_code = fields.String(required=True)
    biz_id = fields.String(required=True, validate=validate.Length(1, 128))
    err_msg = fields.String(allow_none=True)
    report_time = UtcTime(*_TIME, allow_none=True)
    send_time = UtcTime(*_TIME, allow_none=True)
    sms_size = segments()
    out_id = fields.String(allow_none=True)
    message_id = fields.String(allow_none=True)
    request_id = fields.String(allow_none=True)
    sign_name = fields.String(allow_none=True)
    template_code = fields.String(allow_none=True)


class ReportItem(Protocol):
    """A status report as loaded from its schema."""

    phone_number: str
    success: bool
    err_code: str
    biz_id: str
    err_msg: str | msgspec.UnsetType | None
    report_time: str | msgspec.UnsetType | None
    send_time: str | msgspec.UnsetType | None
    sms_size: int | msgspec.UnsetType | None
    out_id: str | msgspec.UnsetType | None
    message_id: str | msgspec.UnsetType | None
    request_id: str | msgspec.UnsetType | None
    sign_name: str | msgspec.UnsetType | None
    template_code: str | msgspec.UnsetType | None


class InternationalReport(ItemSchema):
    """A status report of a message to a number outside of mainland China."""

    MessageId = fields.String(required=True, validate=validate.Length(1, 128))
    To = fields.String(required=True, validate=validate.Length(1, 32))
    Status = Label(required=True, validate=validate.OneOf([*_INTERNATIONAL]))
    ErrorCode = fields.String(allow_none=True)
    ErrorDescription = fields.String(allow_none=True)
    SendDate = UtcTime(*_RFC_TIME, allow_none=True)
    ReceiveDate = UtcTime(*_RFC_TIME, allow_none=True)
    SmsSize = segments()
    TaskId = fields.String(allow_none=True)


class InternationalReportItem(Protocol):
    """An international report as loaded from its schema."""

    MessageId: str
    To: str
    Status: str
    ErrorCode: str | msgspec.UnsetType | None
    ErrorDescription: str | msgspec.UnsetType | None
    SendDate: str | msgspec.UnsetType | None
    ReceiveDate: str | msgspec.UnsetType | None
    SmsSize: int | msgspec.UnsetType | None
    TaskId: str | msgspec.UnsetType | None


class Reply(ItemSchema):
    """A message that a person sent. Only some editions of the documentation have ``sign_name``."""

    phone_number = fields.String(required=True, validate=validate.Length(1, 32))
    content = fields.String(required=True)
    send_time = UtcTime(_reply_time, _TIME[1], allow_none=True)
    dest_code = fields.String(allow_none=True)
    sign_name = fields.String(allow_none=True)
    sequence_id = Label(allow_none=True)


class ReplyItem(Protocol):
    """A reply as loaded from its schema."""

    phone_number: str
    content: str
    send_time: str | msgspec.UnsetType | None
    dest_code: str | msgspec.UnsetType | None
    sign_name: str | msgspec.UnsetType | None
    sequence_id: str | msgspec.UnsetType | None


def _report(_provider: Aliyun, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = DELIVERED if item.success else FAILED
    data = ReportData(
        event_type=event_type,
        message_id=item.biz_id,
        status=status,
        status_desc=item.err_code,
        description=item.err_msg or msgspec.UNSET,
        mobile=item.phone_number,
        deliver_time=item.report_time or msgspec.UNSET,
        session_context=item.out_id or msgspec.UNSET,
        submit_time=item.send_time or msgspec.UNSET,
        fee_num=item.sms_size or msgspec.UNSET,
        extra=kept(
            {
                "message_id": item.message_id,
                "request_id": item.request_id,
                "sign_name": item.sign_name,
                "template_code": item.template_code,
            },
            extra,
        ),
    )
    return Event(event_type, item.report_time or None, encode(data), code=data.status_desc)


def _international(_provider: Aliyun, item: InternationalReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _INTERNATIONAL[item.Status]
    data = ReportData(
        event_type=event_type,
        message_id=item.MessageId,
        status=status,
        status_desc=item.ErrorCode or item.Status,
        description=item.ErrorDescription or msgspec.UNSET,
        nation_code=nation_code(item.To, plus=False) or msgspec.UNSET,
        mobile=item.To,
        deliver_time=item.ReceiveDate or msgspec.UNSET,
        session_context=item.TaskId or msgspec.UNSET,
        submit_time=item.SendDate or msgspec.UNSET,
        fee_num=item.SmsSize or msgspec.UNSET,
        extra=extra or msgspec.UNSET,
    )
    return Event(event_type, item.ReceiveDate or None, encode(data), code=data.status_desc)


def _reply(provider: Aliyun, item: ReplyItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.content,
        sign=item.sign_name or msgspec.UNSET,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.dest_code or msgspec.UNSET,
        mobile=item.phone_number,
        deliver_time=item.send_time or msgspec.UNSET,
        extra=kept({"sequence_id": item.sequence_id}, extra),
    )
    return Event(EventType.REPLY, item.send_time or None, encode(data))


class Aliyun(ItemProvider):
    """The provider ``aliyun``."""

    name = "aliyun"
    title = "Alibaba Cloud SMS"
    codes = SMPP_STATES.union(_INTERNATIONAL, ("DELIVERED", "success"))
    shared_ids = True
    ack = Answer(200, b'{"code":0,"msg":"OK"}', JSON)
    item_types = (
        ItemType(Report, ("success", "biz_id", "err_code"), _report),
        ItemType(InternationalReport, ("MessageId", "Status"), _international),
        ItemType(Reply, ("content", "dest_code", "sequence_id"), _reply),
    )
    types_in_arrays = len(item_types)
    unlike = "neither a report (it would have success and biz_id, or MessageId and Status) nor a reply (content)"

    def refuse(self, status: int, message: str) -> Answer:
        """Return the status as the code, with the error message."""
        return Answer(status, msgspec.json.encode({"code": status, "msg": message}), JSON)
