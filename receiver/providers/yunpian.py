"""Yunpian (云片): arrays of status reports, and single replies, as JSON in one parameter of a form.

https://www.yunpian.com/official/document/sms/zh_CN/domestic_push_report (reports),
https://www.yunpian.com/official/document/sms/zh_CN/intl_push_report (international reports),
https://www.yunpian.com/official/document/sms/zh_CN/domestic_push_reply (replies and their signature).

The value may be URL-encoded twice. The body ``SUCCESS`` is the ack, whatever the HTTP status. Numbers of mainland China
lack their +86; others have a plus. Times are UTC+8.

Replies are signed with the API key. The signature covers values joined by commas, and a text may contain commas too.
Reports are not signed, so the callback URL also needs a key.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from marshmallow import ValidationError, fields, validate

from receiver.errors import BadSignatureError
from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import (
    DELIVERED,
    FAILED,
    SMPP_STATES,
    Answer,
    Outcome,
    ParsedCallback,
    ProviderOptions,
    option,
)
from receiver.providers.fields import BEIJING, Label, UtcTime, nation_code, text_form
from receiver.providers.item_types import ItemProvider, ItemSchema, ItemType, kept
from receiver.providers.json_items import NotJsonError, TooManyItemsError, decode_item
from receiver.providers.signatures import require_match
from receiver.setting_fields import secrets

if TYPE_CHECKING:
    from receiver.providers.base import CallbackRequest

_OUTCOMES: Final[dict[str, Outcome]] = {"SUCCESS": DELIVERED, "FAIL": FAILED}
_PARAMETERS: Final = (b"sms_status", b"sms_reply")
_TIME: Final = (text_form("%Y-%m-%d %H:%M:%S", BEIJING), "2026-03-01 10:00:03, at UTC+8")
_CHINA: Final = "86"
#: Starts of an array and an object.
_JSON: Final = (b"[", b"{")


class Report(ItemSchema):
    """A status report. ``sid`` is a number of 64 bits, ``error_msg`` the carrier's code, empty on success."""

    sid = Label(required=True, validate=validate.Length(1, 128))
    report_status = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES]))
    mobile = fields.String(required=True, validate=validate.Length(1, 32))
    error_msg = fields.String(allow_none=True)
    error_detail = fields.String(allow_none=True)
    user_receive_time = UtcTime(*_TIME, allow_none=True)
    uid = Label(allow_none=True)


class ReportItem(Protocol):
    """A status report as loaded from its schema."""

    sid: str
    report_status: str
    mobile: str
    error_msg: str | msgspec.UnsetType | None
    error_detail: str | msgspec.UnsetType | None
    user_receive_time: str | msgspec.UnsetType | None
    uid: str | msgspec.UnsetType | None


class Reply(ItemSchema):
    """A message that a person sent. ``extend`` is the sender's own, ``base_extend`` the system's."""

    mobile = fields.String(required=True, validate=validate.Length(1, 32))
    text = fields.String(required=True)
    reply_time = UtcTime(*_TIME, allow_none=True)
    extend = fields.String(allow_none=True)
    base_extend = fields.String(allow_none=True)
    id = Label(allow_none=True)
    signature = fields.Raw(data_key="_sign", allow_none=True)


class ReplyItem(Protocol):
    """A reply as loaded from its schema."""

    mobile: str
    text: str
    reply_time: str | msgspec.UnsetType | None
    extend: str | msgspec.UnsetType | None
    base_extend: str | msgspec.UnsetType | None
    id: str | msgspec.UnsetType | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class YunpianOptions(ProviderOptions):
    """Options for Yunpian."""

    api_keys: tuple[str, ...] = option(
        secrets(), "API keys of the account, for the signatures of replies; two during a rotation", ()
    )


def _nation_code(mobile: str) -> str | msgspec.UnsetType:
    return _CHINA if mobile.isdecimal() else nation_code(mobile) or msgspec.UNSET


def _report(_provider: Yunpian, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES[item.report_status]
    data = ReportData(
        event_type=event_type,
        message_id=item.sid,
        status=status,
        status_desc=item.error_msg if isinstance(item.error_msg, str) else item.report_status,
        description=item.error_detail or msgspec.UNSET,
        nation_code=_nation_code(item.mobile),
        mobile=item.mobile,
        deliver_time=item.user_receive_time or msgspec.UNSET,
        session_context=item.uid or msgspec.UNSET,
        extra=extra or msgspec.UNSET,
    )
    return Event(event_type, item.user_receive_time or None, encode(data), code=data.status_desc)


def _reply(provider: Yunpian, item: ReplyItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.extend or msgspec.UNSET,
        nation_code=_nation_code(item.mobile),
        mobile=item.mobile,
        deliver_time=item.reply_time or msgspec.UNSET,
        extra=kept({"base_extend": item.base_extend, "id": item.id}, extra),
    )
    return Event(EventType.REPLY, item.reply_time or None, encode(data))


_REPORT: Final = ItemType(Report, ("report_status", "sid", "user_receive_time"), _report)
_REPLY: Final = ItemType(Reply, ("text", "reply_time", "base_extend", "extend"), _reply)


class Yunpian(ItemProvider):
    """The provider ``yunpian``."""

    name = "yunpian"
    title = "Yunpian"
    codes = SMPP_STATES.union(_OUTCOMES)
    ack = Answer(200, b"SUCCESS")
    options_type = YunpianOptions
    options: YunpianOptions
    item_types = (_REPORT, _REPLY)
    unlike = "neither a report (it would have report_status and sid) nor a reply (text, reply_time)"

    @property
    def verifies(self) -> bool:
        """Whether an API key is configured. It signs replies, but not reports."""
        return bool(self.options.api_keys)

    def verify(self, request: CallbackRequest, _now: float, _certificate: bytes | None = None) -> None:
        """Check ``_sign`` of every reply: MD5 of its values, in the order of their names, and the API key."""
        request.decoded = _json_of(request.body)
        try:
            items = super().split(request.decoded)
        except (NotJsonError, TooManyItemsError):
            return  # parsing will reject the body
        for _, raw in items:
            try:
                item = decode_item(raw)
                is_reply = isinstance(item, dict) and self.type_of(item) is _REPLY
            except ValidationError:
                continue  # parsing will reject the item
            if is_reply:
                self._verify_reply(item)

    def _verify_reply(self, item: dict[str, Any]) -> None:
        given = item.pop("_sign", None)
        if not given or not isinstance(given, str):
            raise BadSignatureError("the reply is not signed: _sign is missing")
        text = ",".join(_signed(item[name]) for name in sorted(item))
        require_match(given.lower(), (_digest(f"{text},{key}") for key in self.options.api_keys))

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse the JSON in the form."""
        return super().parse_fast(msgspec.structs.replace(request, body=request.decoded or _json_of(request.body)))

    def split(self, body: bytes) -> list[tuple[str, bytes]]:
        """Return the items of the JSON in the form. A dashboard's check of the URL has none."""
        return super().split(_json_of(body)) if body else []


def _json_of(body: bytes) -> bytes:
    """Return the JSON in a form's parameter. Other bodies are returned unchanged: quarantined items have no form."""
    if body.startswith(_JSON):
        return body
    for parameter in body.split(b"&"):
        name, _, value = parameter.partition(b"=")
        if name in _PARAMETERS:
            text = _unquoted(value)
            for json in (text, _unquoted(text)):
                if json.startswith(_JSON):
                    return json
    return body


def _unquoted(value: bytes) -> bytes:
    return unquote_to_bytes(value.replace(b"+", b" "))


def _signed(value: Any) -> str:  # noqa: ANN401 any JSON
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
