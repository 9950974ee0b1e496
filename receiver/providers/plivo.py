"""Plivo: message status callbacks and incoming messages, one a request, as a form or a query.

https://www.plivo.com/docs/messaging/api/message/message-status-callbacks (status),
https://www.plivo.com/docs/messaging/ (incoming messages, signature V2),
https://github.com/plivo/plivo-python/blob/master/plivo/utils/signature_v3.py (signature V3).

The body of a response to an incoming message can reach the person as an SMS, so every response is empty. Signature V2
covers the URL without its query and a nonce, but no parameters: it authenticates the sender only. V3 covers the
parameters too, and takes precedence if a request has both. Nonces are not stored: a replayed callback becomes the same
event. Times have no zone, and are read as UTC.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec
from marshmallow import fields, validate

from receiver.errors import BadSignatureError
from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import DELIVERED, FAILED, PENDING, Answer, Outcome, ProviderOptions, option
from receiver.providers.fields import UtcTime, iso_form, nation_code, segments
from receiver.providers.forms import MAX_PARAMETERS, FormProvider, filled, signed_parameters
from receiver.providers.item_types import ItemSchema, ItemType, kept
from receiver.providers.signatures import header, require_match_of_any
from receiver.setting_fields import secrets

if TYPE_CHECKING:
    from receiver.providers.base import CallbackRequest

_OUTCOMES: Final[dict[str, Outcome]] = {
    "queued": PENDING,
    "sent": PENDING,
    "delivered": DELIVERED,
    "read": DELIVERED,
    "failed": FAILED,
    "undelivered": FAILED,
    "rejected": FAILED,
}
_NO_ERROR: Final = "000"
#: https://www.plivo.com/docs/messaging/troubleshooting/error-codes
_ERRORS: Final = "10 20 30 40 50 60 70 80 90 100 110 120 130 140 160 200 201 300 420 450 451 452 900 910 950 960 1000"
_TIME: Final = (iso_form, "2026-03-01 02:00:03.400000, at UTC")


class MessageStatus(ItemSchema):
    """A status callback."""

    MessageUUID = fields.String(required=True, validate=validate.Length(1, 128))
    Status = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES]))
    To = fields.String(required=True, validate=validate.Length(1, 64))
    From = fields.String()
    ErrorCode = fields.String()
    DeliveryReportTime = UtcTime(*_TIME)
    SentTime = UtcTime(*_TIME)
    QueuedTime = fields.String()
    MessageTime = fields.String()
    Units = segments()
    TotalRate = fields.String()
    TotalAmount = fields.String()
    MCC = fields.String()
    MNC = fields.String()
    Type = fields.String()
    Sequence = fields.String()
    ParentMessageUUID = fields.String()
    PartInfo = fields.String()


class MessageStatusItem(Protocol):
    """A status callback as loaded from its schema."""

    MessageUUID: str
    Status: str
    To: str
    From: str | msgspec.UnsetType
    ErrorCode: str | msgspec.UnsetType
    DeliveryReportTime: str | msgspec.UnsetType
    SentTime: str | msgspec.UnsetType
    QueuedTime: str | msgspec.UnsetType
    MessageTime: str | msgspec.UnsetType
    Units: int | msgspec.UnsetType
    TotalRate: str | msgspec.UnsetType
    TotalAmount: str | msgspec.UnsetType
    MCC: str | msgspec.UnsetType
    MNC: str | msgspec.UnsetType
    Type: str | msgspec.UnsetType
    Sequence: str | msgspec.UnsetType
    ParentMessageUUID: str | msgspec.UnsetType
    PartInfo: str | msgspec.UnsetType


class IncomingMessage(ItemSchema):
    """A message that a person sent. It has no time."""

    MessageUUID = fields.String(required=True, validate=validate.Length(1, 128))
    From = fields.String(required=True, validate=validate.Length(1, 64))
    To = fields.String(required=True)
    Text = fields.String(required=True)
    Type = fields.String()
    Units = fields.String()
    TotalRate = fields.String()
    TotalAmount = fields.String()


class IncomingMessageItem(Protocol):
    """An incoming message as loaded from its schema."""

    MessageUUID: str
    From: str
    To: str
    Text: str
    Type: str | msgspec.UnsetType
    Units: str | msgspec.UnsetType
    TotalRate: str | msgspec.UnsetType
    TotalAmount: str | msgspec.UnsetType


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlivoOptions(ProviderOptions):
    """Options for Plivo."""

    auth_tokens: tuple[str, ...] = option(
        secrets(), "auth tokens of the account or the subaccount; two during a rotation", ()
    )
    require_v3: bool = option(
        fields.Boolean(truthy={True}, falsy={False}),
        "true: refuse requests that only have signature V2, which covers no parameters",
        default=False,
    )


def _status(_provider: Plivo, item: MessageStatusItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES[item.Status]
    code = item.ErrorCode if item.ErrorCode and item.ErrorCode != _NO_ERROR else None
    data = ReportData(
        event_type=event_type,
        message_id=item.MessageUUID,
        status=status,
        status_desc=code or item.Status,
        nation_code=nation_code(item.To, plus=False) or msgspec.UNSET,
        mobile=item.To,
        deliver_time=msgspec.UNSET if event_type is EventType.SENT else item.DeliveryReportTime,
        submit_time=item.SentTime,
        fee_num=item.Units or msgspec.UNSET,
        sender=item.From,
        extra=kept(
            {
                "QueuedTime": item.QueuedTime,
                "MessageTime": item.MessageTime,
                "TotalRate": item.TotalRate,
                "TotalAmount": item.TotalAmount,
                "MCC": item.MCC,
                "MNC": item.MNC,
                "Type": item.Type,
                "Sequence": item.Sequence,
                "ParentMessageUUID": item.ParentMessageUUID,
                "PartInfo": item.PartInfo,
            },
            extra,
        ),
    )
    return Event(event_type, item.DeliveryReportTime or None, encode(data), code=data.status_desc)


def _incoming(provider: Plivo, item: IncomingMessageItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.Text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.To,
        nation_code=nation_code(item.From, plus=False) or msgspec.UNSET,
        mobile=item.From,
        extra=kept(
            {
                "MessageUUID": item.MessageUUID,
                "Type": item.Type,
                "Units": item.Units,
                "TotalRate": item.TotalRate,
                "TotalAmount": item.TotalAmount,
            },
            extra,
        ),
    )
    return Event(EventType.REPLY, None, encode(data))


class Plivo(FormProvider):
    """The provider ``plivo``."""

    name = "plivo"
    title = "Plivo"
    codes = frozenset({*_OUTCOMES, *_ERRORS.split()})
    options_type = PlivoOptions
    options: PlivoOptions
    signs_url = True
    has_pending = True
    item_types = (
        ItemType(MessageStatus, ("Status",), _status),
        ItemType(IncomingMessage, ("Text",), _incoming),
    )
    unlike = "neither a status (it would have Status) nor an incoming message (Text)"

    @property
    def signed(self) -> bool:
        """Whether an auth token is configured."""
        return bool(self.options.auth_tokens)

    def verify(self, request: CallbackRequest, _now: float, _certificate: bytes | None = None) -> None:
        """Check signature V3, else V2: HMAC-SHA256 of the URL, the parameters (V3 only) and a nonce.

        The tokens of subaccount and main account sign different headers. Each may contain several signatures.
        """
        v3 = self.options.require_v3 or bool(request.headers.get("X-Plivo-Signature-V3-Nonce"))
        version = "V3" if v3 else "V2"
        nonce = header(request, f"X-Plivo-Signature-{version}-Nonce")
        own, main = f"X-Plivo-Signature-{version}", f"X-Plivo-Signature-Ma-{version}"
        names = [name for name in (own, main) if request.headers.get(name)] or [own]
        given = [one.strip() for name in names for one in header(request, name).split(",")]
        url = f"{self.public_url}{request.target.partition('?')[0]}"
        text = f"{url}{_signed_parameters(request)}.{nonce}" if v3 else f"{url}{nonce}"
        signed = text.encode(errors="surrogateescape")
        digests = (hmac.digest(token.encode(), signed, hashlib.sha256) for token in self.options.auth_tokens)
        require_match_of_any(given, (b64encode(digest).decode() for digest in digests))

    def item_of(self, request: CallbackRequest) -> dict[str, Any]:
        """Return the parameters that have a value. Some callbacks spell ``Status`` as ``status``."""
        item = filled(super().item_of(request), ("Text",))
        if "status" in item and "Status" not in item:
            item["Status"] = item.pop("status")
        return item

    def refuse(self, status: int, _message: str) -> Answer:
        """Return an empty body: Plivo could send a text to the person."""
        return Answer(status)


def _signed_parameters(request: CallbackRequest) -> str:
    """Return the text that V3 signs after the URL: sorted parameters of the query, then of the form."""
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise BadSignatureError("the signature cannot be checked: the query is invalid") from None
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    if not request.body:
        return f"?{query}" if query else ""
    form = "".join(name + value for name, value in sorted(signed_parameters(request)))
    return f"?{query}{'.' if query else ''}{form}"
