"""Kannel and compatible gateways: delivery reports and messages by GET, in URLs that the sender defines.

https://www.kannel.org/ (user guide: delivery reports, sms-service and its escape codes).

Kannel fills in a URL template. Use this ``dlr-url`` for sent messages::

    https://…/callbacks/kannel/{project}?key=…&id=order-17&status=%d&from=%p&to=%P&ts=%T&smsc=%i&answer=%A

``id`` is the sender's own id of the message. Other parameters become the event's ``session_context``. Some versions
exchange ``%p`` and ``%P`` in reports, so try it once. Use this ``get-url`` for an sms-service::

    https://…/callbacks/kannel/{project}?key=…&mo=1&from=%p&to=%P&text=%b&ts=%T&id=%I&smsc=%i&charset=%C

Kannel sends the text of a response to the person, so every response is empty; also set ``max-messages = 0``. By
default Kannel does not retry: set ``http-request-retry`` and ``http-queue-delay``.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec
from marshmallow import ValidationError, fields, validate

from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import (
    DELIVERED,
    FAILED,
    INCONCLUSIVE,
    PENDING,
    SMPP_STATES,
    Answer,
    Outcome,
    ProviderOptions,
    inconclusive_option,
)
from receiver.providers.fields import UtcTime, nation_code, unix_form
from receiver.providers.forms import KEY, MAX_PARAMETERS, FormProvider, filled, merged, text_of
from receiver.providers.item_types import ItemSchema, ItemType, kept

if TYPE_CHECKING:
    from receiver.providers.base import CallbackRequest

#: Outcomes by bit of the status, final ones first. 32 and 64 are details of 2: 34 is expired, 66 unknown.
_OUTCOMES: Final[dict[int, Outcome]] = {1: DELIVERED, 2: FAILED, 16: FAILED, 4: PENDING, 8: PENDING}
_UNKNOWN: Final = 64
_LARGEST: Final = 127
#: The start of the message text, which is last in a receipt.
_TEXT: Final = re.compile(r"(?:^|\s)text:", re.IGNORECASE)
_STATE: Final = re.compile(r"\bstat:(\w+)", re.IGNORECASE)
_ERROR: Final = re.compile(r"\berr:(\w+)", re.IGNORECASE)
_TIME: Final = (unix_form(), "1772330403, in seconds since 1970")
#: Accepted charsets. Some of Python's others are slow, or do not decode to text.
_CHARSET: Final = re.compile(
    r"utf-?(?:8|16(?:be|le)?)|iso-8859-\d{1,2}|windows-125\d|us-ascii|gb(?:2312|k|18030)|big5", re.IGNORECASE
)
_UTF_8: Final = "utf-8"
#: The parameters of reports in the URL template.
_OF_REPORT: Final = frozenset({"id", "status", "from", "to", "ts", "smsc", "answer"})


class Report(ItemSchema):
    """A delivery report."""

    id = fields.String(required=True, validate=validate.Length(1, 128))
    status = fields.Integer(required=True, validate=validate.Range(1, _LARGEST))
    to = fields.String(validate=validate.Length(1, 64))
    sender = fields.String(data_key="from")
    ts = UtcTime(*_TIME)
    smsc = fields.String()
    answer = fields.String()
    session_context = fields.Raw(allow_none=True)


class ReportItem(Protocol):
    """A delivery report as loaded from its schema."""

    id: str
    status: int
    to: str | msgspec.UnsetType
    sender: str | msgspec.UnsetType
    ts: str | msgspec.UnsetType
    smsc: str | msgspec.UnsetType
    answer: str | msgspec.UnsetType
    session_context: Any


class Message(ItemSchema):
    """A message that a person sent."""

    sender = fields.String(data_key="from", required=True, validate=validate.Length(1, 64))
    text = fields.String(required=True)
    to = fields.String()
    ts = UtcTime(*_TIME)
    id = fields.String()
    smsc = fields.String()
    mo = fields.Raw(allow_none=True)
    charset = fields.Raw(allow_none=True)


class MessageItem(Protocol):
    """A message as loaded from its schema."""

    sender: str
    text: str
    to: str | msgspec.UnsetType
    ts: str | msgspec.UnsetType
    id: str | msgspec.UnsetType
    smsc: str | msgspec.UnsetType


@dataclasses.dataclass(frozen=True, kw_only=True)
class KannelOptions(ProviderOptions):
    """Options for Kannel."""

    inconclusive: str = inconclusive_option("fail")


def _report(provider: Kannel, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _outcome(item.status, provider.options.inconclusive)
    answer = _TEXT.split(item.answer or "", maxsplit=1)[0]
    state, error = _STATE.search(answer), _ERROR.search(answer)
    data = ReportData(
        event_type=event_type,
        message_id=item.id,
        status=status,
        status_desc=state[1] if state else str(item.status),
        description=answer if answer and not state else msgspec.UNSET,
        nation_code=nation_code(item.to or "") or msgspec.UNSET,
        mobile=item.to,
        deliver_time=msgspec.UNSET if event_type is EventType.SENT else item.ts,
        session_context=item.session_context or msgspec.UNSET,
        sender=item.sender,
        extra=kept({"smsc": item.smsc, "err": error[1] if error else None}, extra),
    )
    return Event(event_type, item.ts or None, encode(data), code=data.status_desc)


def _outcome(bits: int, inconclusive: str) -> Outcome:
    if bits & _UNKNOWN:
        return INCONCLUSIVE[inconclusive]
    for bit, outcome in _OUTCOMES.items():
        if bits & bit:
            return outcome
    raise ValidationError("Not a status: it has none of the bits 1, 2, 4, 8 and 16.", "status")


def _message(provider: Kannel, item: MessageItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.to,
        nation_code=nation_code(item.sender) or msgspec.UNSET,
        mobile=item.sender,
        deliver_time=item.ts,
        extra=kept({"id": item.id, "smsc": item.smsc}, extra),
    )
    return Event(EventType.REPLY, item.ts or None, encode(data))


class Kannel(FormProvider):
    """The provider ``kannel``."""

    name = "kannel"
    title = "Kannel"
    codes = SMPP_STATES.union(map(str, _OUTCOMES), ("34", "66"))
    methods = frozenset({"GET"})
    options_type = KannelOptions
    options: KannelOptions
    has_pending = True
    shared_ids = True
    url_query = "id=ID&status=%d&from=%p&to=%P&ts=%T&smsc=%i&answer=%A"
    url_advice = (
        "ID is the sender's own for the message. That was the dlr-url; an sms-service has as its get-url, behind the "
        "key: mo=1&from=%p&to=%P&text=%b&ts=%T&id=%I&smsc=%i&charset=%C"
    )
    item_types = (
        ItemType(Report, ("status", "answer"), _report),
        ItemType(Message, ("mo", "text"), _message),
    )
    unlike = "neither a delivery report (it would have status) nor a message (text)"

    def item_of(self, request: CallbackRequest) -> dict[str, Any]:
        """Return the parameters that have a value, decoded with ``charset``. Others are in ``session_context``."""
        query = text_of(request)
        # Latin-1 preserves the bytes of each value. Another parameter names their charset.
        pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1", max_num_fields=MAX_PARAMETERS)
        charset = dict(pairs).get("charset", "")
        charset = charset if _CHARSET.fullmatch(charset) else _UTF_8
        decoded = ((_decoded(name), _decoded(value, charset if name == "text" else _UTF_8)) for name, value in pairs)
        item = filled(merged(pair for pair in decoded if pair[0] != KEY), ("text",))
        if "mo" not in item and "status" in item:
            own = {name: item.pop(name) for name in item.keys() - _OF_REPORT}
            item.update({"session_context": own} if own else {})
        return item

    def refuse(self, status: int, _message: str) -> Answer:
        """Return an empty body: Kannel would send a text to the person."""
        return Answer(status)


def _decoded(value: str, charset: str = _UTF_8) -> str:
    """Decode bytes held as Latin-1 text: with the charset, else as UTF-8, else unchanged."""
    raw = value.encode("latin-1")
    for encoding in (charset, _UTF_8):
        try:
            return raw.decode(encoding)
        except (LookupError, ValueError):
            continue
    return value
