"""Vonage (Nexmo): receipts and replies of the SMS API and the Messages API, distinguished by their fields.

https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts (receipts of the SMS API),
https://developer.vonage.com/en/messaging/sms/guides/inbound-sms (replies),
https://developer.vonage.com/en/getting-started/concepts/signing-messages (signature of the SMS API),
https://developer.vonage.com/en/api/messages-olympus (Messages API),
https://developer.vonage.com/en/getting-started/concepts/webhooks#decoding-signed-webhooks (its signature).

The SMS API uses GET, form or JSON, by setting of the account, with the same names in each. A long message has one
receipt for each part. The parts of a long reply arrive separately; joining them by ``concat-ref`` is left to consumers.
In a receipt, ``msisdn`` is the recipient and ``to`` the sender. The only time of a reply is that of the push, which
differs between attempts, so the event's id excludes it.

The Messages API signs with a JWT. It sometimes omits the JWT by mistake, and is then asked to retry.
"""

# ruff: noqa: N815 the names of fields are Vonage's
from __future__ import annotations

import dataclasses
import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt
import msgspec
from marshmallow import ValidationError, fields, validate

from receiver.errors import BadSignatureError
from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import (
    DELIVERED,
    FAILED,
    INCONCLUSIVE,
    PENDING,
    Outcome,
    ProviderOptions,
    inconclusive_option,
    option,
    tolerance_option,
)
from receiver.providers.fields import Label, UtcTime, any_json, iso_form, nation_code, text_form
from receiver.providers.forms import MAX_PARAMETERS, FormProvider, filled, merged, parameters
from receiver.providers.item_types import UNFIT, IgnoredItem, ItemSchema, ItemType, kept
from receiver.providers.json_items import decode_item
from receiver.providers.signatures import header, require_match, require_recent, seconds_of
from receiver.setting_fields import secrets

if TYPE_CHECKING:
    from jwt.types import Options

    from receiver.providers.base import CallbackRequest

_OUTCOMES: Final[dict[str, Outcome]] = {
    "accepted": PENDING,
    "buffered": PENDING,
    "delivered": DELIVERED,
    "expired": FAILED,
    "failed": FAILED,
    "rejected": FAILED,
}
#: No information. Vonage does not document whether another receipt follows.
_INCONCLUSIVE: Final = "unknown"
_MESSAGES_OUTCOMES: Final[dict[str, Outcome]] = {
    "submitted": PENDING,
    "delivered": DELIVERED,
    "read": DELIVERED,
    "rejected": FAILED,
    "undeliverable": FAILED,
}
_NO_ERROR: Final = "0"
#: https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts#dlr-error-codes
_ERRORS: Final = {
    "1": "Unknown",
    "2": "Absent Subscriber - Temporary",
    "3": "Absent Subscriber - Permanent",
    "4": "Call Barred by User",
    "5": "Portability Error",
    "6": "Anti-Spam Rejection",
    "7": "Handset Busy",
    "8": "Network Error",
    "9": "Illegal Number",
    "10": "Illegal Message",
    "11": "Unroutable",
    "12": "Destination Unreachable",
    "13": "Subscriber Age Restriction",
    "14": "Number Blocked by Carrier",
    "15": "Prepaid Insufficient Funds",
    "16": "Gateway Quota Exceeded",
    "50": "Entity Filter",
    "51": "Header Filter",
    "52": "Content Filter",
    "53": "Consent Filter",
    "54": "Regulation Error",
    "99": "General Error",
}
#: https://developer.vonage.com/en/api-errors/messages, without those of other channels.
_MESSAGES_ERRORS: Final = (
    "1000 1010 1020 1030 1040 1050 1060 1070 1080 1090 1100 1110 1120 1130 1140 1150 1160 1170 1180 1190 1200 1210 1220"
    " 1230 1240 1241 1250 1260 1270 1280 1290 1320 1330"
)
_TIME: Final = (iso_form, "2026-03-01T02:00:03.000Z")
#: Signature methods of the SMS API. The account sets the method; a request does not name it.
_METHODS: Final = ("md5hash", "md5", "sha1", "sha256", "sha512")
#: ``verify`` checks the times itself, against its own clock argument.
_TOKEN: Final[Options] = {
    "require": ["iat", "payload_hash"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
}
_CHANNEL: Final = "sms"
_MAX_NUMBER: Final = 64


class Receipt(ItemSchema):
    """A delivery receipt of the SMS API. Fields declared as ``Raw`` are dropped from events."""

    messageId = fields.String(required=True, validate=validate.Length(1, 128))
    status = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES, _INCONCLUSIVE]))
    msisdn = fields.String(required=True, validate=validate.Length(1, 64))
    sender = fields.String(data_key="to")
    err_code = Label(data_key="err-code")
    scts = UtcTime(text_form("%y%m%d%H%M"), "2603010200, at UTC")
    client_ref = fields.String(data_key="client-ref")
    network_code = fields.String(data_key="network-code")
    price = Label()
    api_key = fields.String(data_key="api-key")
    message_timestamp = fields.Raw(data_key="message-timestamp", allow_none=True)
    timestamp = fields.Raw(allow_none=True)
    nonce = fields.Raw(allow_none=True)
    sig = fields.Raw(allow_none=True)


class ReceiptItem(Protocol):
    """A receipt as loaded from its schema."""

    messageId: str
    status: str
    msisdn: str
    sender: str | msgspec.UnsetType
    err_code: str | msgspec.UnsetType
    scts: str | msgspec.UnsetType
    client_ref: str | msgspec.UnsetType
    network_code: str | msgspec.UnsetType
    price: str | msgspec.UnsetType
    api_key: str | msgspec.UnsetType


class Reply(ItemSchema):
    """A message that a person sent, or a part of it, from the SMS API. Type ``binary`` has ``data`` in hex."""

    messageId = fields.String(required=True)
    msisdn = fields.String(required=True, validate=validate.Length(1, 64))
    to = fields.String(required=True)
    text = fields.String()
    data = fields.String()
    message_timestamp = UtcTime(
        text_form("%Y-%m-%d %H:%M:%S"), "2026-03-01 02:00:04, at UTC", data_key="message-timestamp"
    )
    type = fields.String()
    keyword = fields.String()
    api_key = fields.String(data_key="api-key")
    udh = fields.String()
    concat = Label()
    concat_ref = Label(data_key="concat-ref")
    concat_total = Label(data_key="concat-total")
    concat_part = Label(data_key="concat-part")
    timestamp = fields.Raw(allow_none=True)
    nonce = fields.Raw(allow_none=True)
    sig = fields.Raw(allow_none=True)


class ReplyItem(Protocol):
    """A reply as loaded from its schema."""

    messageId: str
    msisdn: str
    to: str
    text: str | msgspec.UnsetType
    data: str | msgspec.UnsetType
    message_timestamp: str | msgspec.UnsetType
    type: str | msgspec.UnsetType
    keyword: str | msgspec.UnsetType
    api_key: str | msgspec.UnsetType
    udh: str | msgspec.UnsetType
    concat: str | msgspec.UnsetType
    concat_ref: str | msgspec.UnsetType
    concat_total: str | msgspec.UnsetType
    concat_part: str | msgspec.UnsetType


class Address(fields.Field[str]):
    """A number, or an object with one: ``{"type": "sms", "number": "447700900000"}`` before version 1."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401, ARG002 marshmallow's
        number = value.get("number") if isinstance(value, dict) else value
        if not isinstance(number, str) or not 0 < len(number) <= _MAX_NUMBER:
            raise ValidationError("Not a number.")
        return number


class Cause(ItemSchema):
    """The error of a failed message. It has ``code`` and ``reason`` before version 1."""

    title = Label(allow_none=True)
    detail = fields.String(allow_none=True)
    code = Label(allow_none=True)
    reason = fields.String(allow_none=True)
    type = fields.Raw(allow_none=True)
    instance = fields.Raw(allow_none=True)


class CauseItem(Protocol):
    """A cause as loaded from its schema."""

    title: str | msgspec.UnsetType | None
    detail: str | msgspec.UnsetType | None
    code: str | msgspec.UnsetType | None
    reason: str | msgspec.UnsetType | None


class Segments(ItemSchema):
    """The SMS-specific object, with the number of segments."""

    count_total = fields.Integer(allow_none=True, validate=validate.Range(0))


class SegmentsItem(Protocol):
    """The segments as loaded from their schema."""

    count_total: int | msgspec.UnsetType | None


class MessageStatus(ItemSchema):
    """A status of the Messages API."""

    message_uuid = fields.String(required=True, validate=validate.Length(1, 128))
    status = fields.String(required=True, validate=validate.OneOf([*_MESSAGES_OUTCOMES]))
    to = Address(required=True)
    sender = Address(data_key="from", allow_none=True)
    timestamp = UtcTime(*_TIME, allow_none=True)
    error = fields.Nested(Cause, allow_none=True)
    client_ref = fields.String(allow_none=True)
    sms = fields.Nested(Segments, allow_none=True)
    channel = fields.Raw(allow_none=True)
    usage = any_json()
    destination = any_json()


class MessageStatusItem(Protocol):
    """A status as loaded from its schema."""

    message_uuid: str
    status: str
    to: str
    sender: str | msgspec.UnsetType | None
    timestamp: str | msgspec.UnsetType | None
    error: CauseItem | msgspec.UnsetType | None
    client_ref: str | msgspec.UnsetType | None
    sms: SegmentsItem | msgspec.UnsetType | None
    usage: Any
    destination: Any


class InboundMessage(ItemSchema):
    """A message that a person sent, always complete, from the Messages API."""

    message_uuid = fields.String(required=True)
    sender = Address(data_key="from", required=True)
    to = Address(required=True)
    text = fields.String(required=True)
    timestamp = UtcTime(*_TIME, allow_none=True)
    channel = fields.Raw(allow_none=True)
    message_type = fields.Raw(allow_none=True)
    sms = any_json()
    usage = any_json()
    origin = any_json()


class InboundMessageItem(Protocol):
    """An inbound message as loaded from its schema."""

    message_uuid: str
    sender: str
    to: str
    text: str
    timestamp: str | msgspec.UnsetType | None
    sms: Any
    usage: Any
    origin: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class VonageOptions(ProviderOptions):
    """Options for Vonage. Both APIs sign with the signature secret of the account."""

    signature_secrets: tuple[str, ...] = option(
        secrets(), "signature secrets of the account; two during a rotation", ()
    )
    signature_method: str = option(
        fields.String(validate=validate.OneOf(_METHODS)),
        f"signature method of the SMS API, as set in the account: {', '.join(_METHODS)}",
        _METHODS[0],
    )
    clock_tolerance: float = tolerance_option()
    inconclusive: str = inconclusive_option()


def _receipt(provider: Vonage, item: ReceiptItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES.get(item.status) or INCONCLUSIVE[provider.options.inconclusive]
    code = item.err_code if item.err_code and item.err_code != _NO_ERROR else ""
    data = ReportData(
        event_type=event_type,
        message_id=item.messageId,
        status=status,
        status_desc=code or item.status,
        description=_ERRORS.get(code, msgspec.UNSET),
        nation_code=nation_code(item.msisdn, plus=False) or msgspec.UNSET,
        mobile=item.msisdn,
        deliver_time=msgspec.UNSET if event_type is EventType.SENT else item.scts,
        session_context=item.client_ref,
        sender=item.sender,
        extra=kept({"network-code": item.network_code, "price": item.price, "api-key": item.api_key}, extra),
    )
    return Event(event_type, item.scts or None, encode(data), code=data.status_desc)


def _reply(provider: Vonage, item: ReplyItem, extra: dict[str, Any] | None) -> Event:
    text = item.data if item.text is msgspec.UNSET else item.text
    if text is msgspec.UNSET:
        raise ValidationError("Missing data for required field.", "text")
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.to,
        nation_code=nation_code(item.msisdn, plus=False) or msgspec.UNSET,
        mobile=item.msisdn,
        extra=kept(
            {
                "messageId": item.messageId,
                "type": item.type,
                "keyword": item.keyword,
                "api-key": item.api_key,
                "udh": item.udh,
                "concat": item.concat,
                "concat-ref": item.concat_ref,
                "concat-total": item.concat_total,
                "concat-part": item.concat_part,
            },
            extra,
        ),
    )
    identity = encode(data)
    data.deliver_time = item.message_timestamp
    return Event(EventType.REPLY, item.message_timestamp or None, encode(data), identity)


def _message_status(_provider: Vonage, item: MessageStatusItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _MESSAGES_OUTCOMES[item.status]
    cause = item.error or None
    time = item.timestamp or None
    data = ReportData(
        event_type=event_type,
        message_id=item.message_uuid,
        status=status,
        status_desc=(cause and (cause.title or cause.code)) or item.status,
        description=(cause and (cause.detail or cause.reason)) or msgspec.UNSET,
        nation_code=nation_code(item.to, plus=False) or msgspec.UNSET,
        mobile=item.to,
        deliver_time=time if time and event_type is not EventType.SENT else msgspec.UNSET,
        session_context=item.client_ref or msgspec.UNSET,
        fee_num=(item.sms and item.sms.count_total) or msgspec.UNSET,
        sender=item.sender or msgspec.UNSET,
        extra=kept({"usage": item.usage, "destination": item.destination, "error": cause}, extra),
    )
    return Event(event_type, time, encode(data), code=data.status_desc)


def _inbound_message(provider: Vonage, item: InboundMessageItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.to,
        nation_code=nation_code(item.sender, plus=False) or msgspec.UNSET,
        mobile=item.sender,
        deliver_time=item.timestamp or msgspec.UNSET,
        extra=kept(
            {"message_uuid": item.message_uuid, "sms": item.sms, "usage": item.usage, "origin": item.origin}, extra
        ),
    )
    return Event(EventType.REPLY, item.timestamp or None, encode(data))


class Vonage(FormProvider):
    """The provider ``vonage``."""

    name = "vonage"
    title = "Vonage SMS and Messages"
    codes = frozenset({*_OUTCOMES, *_MESSAGES_OUTCOMES, _INCONCLUSIVE, *_ERRORS, *_MESSAGES_ERRORS.split()})
    options_type = VonageOptions
    options: VonageOptions
    has_pending = True
    of_push = frozenset({"message-timestamp", "timestamp", "nonce", "sig"})
    item_types = (
        ItemType(Receipt, ("messageId", "status", "err-code", "scts"), _receipt),
        ItemType(Reply, ("messageId", "text", "data", "type", "keyword"), _reply),
        ItemType(MessageStatus, ("message_uuid", "status"), _message_status),
        ItemType(InboundMessage, ("message_uuid", "text"), _inbound_message),
    )
    unlike = "neither a receipt (it would have messageId or message_uuid, and status) nor a reply (text)"

    @property
    def signed(self) -> bool:
        """Whether a signature secret is configured."""
        return bool(self.options.signature_secrets)

    def verify(self, request: CallbackRequest, now: float, _certificate: bytes | None = None) -> None:
        """Check the JWT of the Messages API, or the parameter ``sig`` of the SMS API.

        A dashboard's check of the URL has neither parameters nor signature.
        """
        try:
            pairs = _parameters(request)
        except (*UNFIT, ValidationError):
            raise BadSignatureError("the signature cannot be checked: the parameters are invalid") from None
        if any(name == "message_uuid" for name, _ in pairs):
            self._verify_token(request, now)
        elif pairs:
            self._verify_parameters(pairs, now)

    def _verify_parameters(self, pairs: list[tuple[str, Any]], now: float) -> None:
        item = dict(pairs)
        given = item.get("sig")
        if not given or not isinstance(given, str):
            raise BadSignatureError("the request is not signed: sig is missing")
        if any("&" in name or "=" in name for name in item):  # in the signed text they would look like other parameters
            raise BadSignatureError("the name of a parameter contains & or =")
        signed = sorted((name, _signed(value)) for name, value in pairs if name != "sig")
        text = "".join(f"&{name}={value}" for name, value in signed).encode()
        require_match(given.lower(), (self._digest(secret.encode(), text) for secret in self.options.signature_secrets))
        require_recent(seconds_of(str(item.get("timestamp"))), now, self.options.clock_tolerance)

    def _digest(self, secret: bytes, text: bytes) -> str:
        if self.options.signature_method == "md5hash":
            return hashlib.md5(text + secret, usedforsecurity=False).hexdigest()
        return hmac.digest(secret, text, self.options.signature_method).hex()

    def _verify_token(self, request: CallbackRequest, now: float) -> None:
        scheme, _, token = header(request, "Authorization", retried=True).partition(" ")
        claims = self._claims(token.strip()) if scheme.lower() == "bearer" else None
        if claims is None:
            raise BadSignatureError("the signature is wrong; check the signature secret")
        if not request.body:  # the token covers only the body
            raise BadSignatureError("the request has no body")
        require_match(str(claims["payload_hash"]).lower(), [hashlib.sha256(request.body).hexdigest()])
        require_recent(seconds_of(str(claims["iat"])), now, self.options.clock_tolerance)

    def _claims(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token; None if no secret matches its signature."""
        for secret in self.options.signature_secrets:
            try:
                return jwt.decode(token, secret, algorithms=["HS256"], options=_TOKEN)
            except jwt.PyJWTError:
                continue
        return None

    def item_of(self, request: CallbackRequest) -> dict[str, Any]:
        """Return the members of a form, query or JSON object that have a value. The text may be empty."""
        return filled(merged(_parameters(request)), ("text",))

    def type_of(self, item: dict[str, Any]) -> ItemType[Any, Any]:
        """Return the type of an item; ignore channels of the Messages API other than SMS."""
        if "message_uuid" in item and _channel(item) not in (_CHANNEL, None):
            raise IgnoredItem
        return super().type_of(item)


def _parameters(request: CallbackRequest) -> list[tuple[str, Any]]:
    """Return the names and values of a form, a query or a JSON object. Raises ValueError and ValidationError."""
    if request.decoded is None and request.body.lstrip()[:1] == b"{":
        item = decode_item(request.body)
        if len(item) > MAX_PARAMETERS:
            raise ValueError(f"more than {MAX_PARAMETERS} members")
        request.decoded = [*item.items()]
    return parameters(request)


def _signed(value: Any) -> str:  # noqa: ANN401 any JSON
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text.replace("&", "_").replace("=", "_")


def _channel(item: dict[str, Any]) -> Any:  # noqa: ANN401 any JSON
    """Return the channel. Before version 1 it is part of the addresses."""
    sender = item.get("from")
    return item.get("channel", sender.get("type") if isinstance(sender, dict) else None)
