"""MessageBird's SMS API: status reports by GET, and incoming messages as a form, one a request.

https://support.messagebird.com/hc/en-us/articles/360001869258-I-am-missing-my-delivery-reports (status reports),
https://docs.bird.com/api/channels-api/message-status-and-interactions/message-failure-sources/sms-platform-extended-error-codes
(error codes),
https://developers.messagebird.com/docs/verify-http-requests and
https://github.com/messagebird/python-rest-api/blob/master/messagebird/request_validator.py (signature).

Only messages sent with a ``reference`` have status reports. Their ``id`` identifies the send request: together with the
recipient it identifies a message. Incoming messages have two generations of parameter names, sometimes in one request,
with varying case; the last value of a name counts. The signature is a JWT with hashes of URL and body.
"""

# ruff: noqa: N815 the names of fields are MessageBird's
from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt
import msgspec
from marshmallow import ValidationError, fields, validate

from receiver.errors import BadSignatureError
from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import (
    DELIVERED,
    FAILED,
    PENDING,
    Answer,
    Outcome,
    ProviderOptions,
    option,
    tolerance_option,
)
from receiver.providers.fields import UtcTime, iso_form, nation_code, segments, text_form
from receiver.providers.forms import FormProvider, filled, parameters
from receiver.providers.item_types import ItemSchema, ItemType, kept
from receiver.providers.signatures import header, require_match
from receiver.setting_fields import secrets

if TYPE_CHECKING:
    from datetime import datetime

    from jwt.types import Options

    from receiver.providers.base import CallbackRequest

_OUTCOMES: Final[dict[str, Outcome]] = {
    "scheduled": PENDING,
    "sent": PENDING,
    "buffered": PENDING,
    "delivered": DELIVERED,
    "delivery_failed": FAILED,
    "expired": FAILED,
}
#: ``EC_NO_ERROR``, which says nothing of the cause.
_NO_ERROR: Final = "0"
#: Errors of the mobile network (3GPP TS 29.002, MAP), and 103: the recipient has opted out.
_ERRORS: Final = "1 2 3 5 6 8 9 10 11 12 13 21 26 27 31 32 33 34 35 36 103"
_ALGORITHMS: Final = ["HS256", "HS384", "HS512"]
_ISSUER: Final = "MessageBird"
#: ``verify`` checks the times itself, against its own clock argument.
_TOKEN: Final[Options] = {
    "require": ["iss", "nbf", "exp", "url_hash"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
}


def _iso_time(value: Any) -> datetime:  # noqa: ANN401 any JSON
    """Parse ISO 8601. The query may have turned its plus into a space."""
    head, blank, offset = str(value).rpartition(" ")
    return iso_form(f"{head}+{offset}" if blank and "T" in head else value)


_TIME: Final = (_iso_time, "2026-03-01T02:00:03+00:00")


class StatusReport(ItemSchema):
    """The status of a message to one recipient."""

    id = fields.String(required=True, validate=validate.Length(1, 128))
    recipient = fields.String(required=True, validate=validate.Length(1, 64))
    status = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES]))
    statusReason = fields.String()
    statusErrorCode = fields.String()
    statusDatetime = UtcTime(*_TIME)
    reference = fields.String()
    messagePartCount = segments()
    messageLength = fields.String()
    mccmnc = fields.String()
    ported = fields.String()
    datacoding = fields.String()
    price_amount = fields.String(data_key="price[amount]")
    price_currency = fields.String(data_key="price[currency]")


class StatusReportItem(Protocol):
    """A status report as loaded from its schema."""

    id: str
    recipient: str
    status: str
    statusReason: str | msgspec.UnsetType
    statusErrorCode: str | msgspec.UnsetType
    statusDatetime: str | msgspec.UnsetType
    reference: str | msgspec.UnsetType
    messagePartCount: int | msgspec.UnsetType
    messageLength: str | msgspec.UnsetType
    mccmnc: str | msgspec.UnsetType
    ported: str | msgspec.UnsetType
    datacoding: str | msgspec.UnsetType
    price_amount: str | msgspec.UnsetType
    price_currency: str | msgspec.UnsetType


class IncomingMessage(ItemSchema):
    """A message that a person sent. The last four fields belong to short codes."""

    originator = fields.String(required=True, validate=validate.Length(1, 64))
    id = fields.String()
    recipient = fields.String()
    body = fields.String()
    createdDatetime = UtcTime(*_TIME)
    mediaUrls = fields.String()
    mid = fields.String()
    shortcode = fields.String()
    message = fields.String()
    receive_datetime = UtcTime(text_form("%Y%m%d%H%M%S"), "20260301020500, at UTC")


class IncomingMessageItem(Protocol):
    """An incoming message as loaded from its schema."""

    originator: str
    id: str | msgspec.UnsetType
    recipient: str | msgspec.UnsetType
    body: str | msgspec.UnsetType
    createdDatetime: str | msgspec.UnsetType
    mediaUrls: str | msgspec.UnsetType
    mid: str | msgspec.UnsetType
    shortcode: str | msgspec.UnsetType
    message: str | msgspec.UnsetType
    receive_datetime: str | msgspec.UnsetType


#: Documented spelling of each name, by its lower case.
_NAMES: Final = {
    (name := field.data_key or attribute).lower(): name
    for schema in (StatusReport(), IncomingMessage())
    for attribute, field in schema.fields.items()
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MessageBirdOptions(ProviderOptions):
    """Options for MessageBird."""

    signing_keys: tuple[str, ...] = option(secrets(), "signing keys of the account; two during a rotation", ())
    #: Tolerance beyond the token's own validity of a minute, as in MessageBird's library.
    clock_tolerance: float = tolerance_option(1.0)


def _status(_provider: MessageBird, item: StatusReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES[item.status]
    code = item.statusErrorCode if item.statusErrorCode and item.statusErrorCode != _NO_ERROR else None
    data = ReportData(
        event_type=event_type,
        message_id=item.id,
        status=status,
        status_desc=code or item.status,
        description=item.statusReason,
        nation_code=nation_code(item.recipient, plus=False) or msgspec.UNSET,
        mobile=item.recipient,
        deliver_time=msgspec.UNSET if event_type is EventType.SENT else item.statusDatetime,
        session_context=item.reference,
        fee_num=item.messagePartCount or msgspec.UNSET,
        extra=kept(
            {
                "messageLength": item.messageLength,
                "mccmnc": item.mccmnc,
                "ported": item.ported,
                "datacoding": item.datacoding,
                "price[amount]": item.price_amount,
                "price[currency]": item.price_currency,
            },
            extra,
        ),
    )
    return Event(event_type, item.statusDatetime or None, encode(data), code=data.status_desc)


def _incoming(provider: MessageBird, item: IncomingMessageItem, extra: dict[str, Any] | None) -> Event:
    text = item.message if item.body is msgspec.UNSET else item.body
    if text is msgspec.UNSET:
        raise ValidationError("Missing data for required field.", "body")
    time = item.createdDatetime or item.receive_datetime
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.recipient or item.shortcode,
        nation_code=nation_code(item.originator, plus=False) or msgspec.UNSET,
        mobile=item.originator,
        deliver_time=time,
        extra=kept({"id": item.id or item.mid, "mediaUrls": item.mediaUrls}, extra),
    )
    return Event(EventType.REPLY, time or None, encode(data))


class MessageBird(FormProvider):
    """The provider ``messagebird``."""

    name = "messagebird"
    title = "MessageBird SMS"
    codes = frozenset({*_OUTCOMES, *_ERRORS.split()})
    ack = Answer(200, b"OK")
    options_type = MessageBirdOptions
    options: MessageBirdOptions
    signs_url = True
    has_pending = True
    shared_ids = True
    item_types = (
        ItemType(StatusReport, ("status", "statusDatetime", "reference"), _status),
        ItemType(IncomingMessage, ("originator", "body", "message", "shortcode"), _incoming),
    )
    unlike = "neither a status report (it would have status) nor an incoming message (originator)"

    @property
    def signed(self) -> bool:
        """Whether a signing key is configured."""
        return bool(self.options.signing_keys)

    def verify(self, request: CallbackRequest, now: float, _certificate: bytes | None = None) -> None:
        """Check the JWT: its key, its time, and its hashes of the URL and of the body, if there is one."""
        claims = self._claims(header(request, "MessageBird-Signature-JWT"))
        url = f"{self.public_url}{request.target}".encode(errors="surrogateescape")
        require_match(str(claims["url_hash"]).lower(), [hashlib.sha256(url).hexdigest()])
        if request.body or claims.get("payload_hash"):
            body = hashlib.sha256(request.body).hexdigest() if request.body else ""
            require_match(str(claims.get("payload_hash")).lower(), [body])
        begin, end = claims["nbf"], claims["exp"]
        if not isinstance(begin, int | float) or not isinstance(end, int | float):
            raise BadSignatureError("nbf and exp of the token are not numbers")
        if not begin - self.options.clock_tolerance <= now <= end + self.options.clock_tolerance:
            raise BadSignatureError("the token has expired or is not yet valid")

    def _claims(self, token: str) -> dict[str, Any]:
        for key in self.options.signing_keys:
            try:
                return jwt.decode(token, key, algorithms=_ALGORITHMS, options=_TOKEN, issuer=_ISSUER)
            except jwt.PyJWTError:
                continue
        raise BadSignatureError("the signature is wrong; check the signing key")

    def item_of(self, request: CallbackRequest) -> dict[str, Any]:
        """Return the parameters that have a value, under their documented names. The last value of a name counts."""
        item = {_NAMES.get(name.lower(), name): value for name, value in parameters(request)}
        return filled(item, ("body", "message"))
