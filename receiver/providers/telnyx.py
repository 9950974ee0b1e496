"""Telnyx: events of sent and received messages, one a request, as JSON.

https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks (events),
https://developers.telnyx.com/docs/messaging/messages/error-codes (codes),
https://github.com/team-telnyx/telnyx-python (signature: ``lib/webhook_verification.py``).

The member ``data`` contains the event. ``meta`` beside it and the event's own id differ between attempts, and are
dropped. A message to several recipients becomes one event for each. Reports include the text of the sent message and
the webhook's URLs, which may contain a key: both are dropped.

Telnyx expects a response within 2 s, and tries each URL three times.
"""

from __future__ import annotations

import dataclasses
import re
from base64 import b64decode
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
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
from receiver.providers.fields import UtcTime, any_json, iso_form, nation_code
from receiver.providers.item_types import IgnoredItem, ItemProvider, ItemSchema, ItemType, kept
from receiver.providers.json_items import Copies, bound, decode_item
from receiver.providers.signatures import header, require_recent, seconds_of
from receiver.setting_fields import Secret, secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from receiver.providers.base import CallbackRequest

_OUTCOMES: Final[dict[str, Outcome]] = {
    "queued": PENDING,
    "sending": PENDING,
    "sent": PENDING,
    "delivered": DELIVERED,
    "read": DELIVERED,
    "sending_failed": FAILED,
    "delivery_failed": FAILED,
    "expired": FAILED,
}
#: Final, but without a receipt.
_INCONCLUSIVE: Final = "delivery_unconfirmed"
_SENT: Final = ("message.sent", "message.finalized")
_RECEIVED: Final = "message.received"
#: https://developers.telnyx.com/docs/messaging/messages/error-codes, those of sending.
_ERRORS: Final = (
    "40001 40002 40003 40004 40005 40006 40007 40008 40009 40010 40011 40012 40013 40014 40015 40016 40017 40018 40019"
    " 40020 40100 40150 40151 40155 40300 40301 40302 40303 40304 40305 40306 40307 40308 40309 40310 40311 40312 40313"
    " 40314 40315 40316 40317 40318 40319 40320 40321 40322 40323 40325 40328 40329 40330 40331 40333"
)
_TIME: Final = (iso_form, "2026-03-01T02:00:03.148+00:00")
_RECIPIENT: Final = re.compile(r"/(?:to|cc)/\d+")


class Party(ItemSchema):
    """A number, its carrier, and the status of a message to it."""

    phone_number = fields.String(required=True, validate=validate.Length(1, 64))
    status = fields.String(allow_none=True)
    carrier = fields.String(allow_none=True)
    line_type = fields.String(allow_none=True)


class PartyItem(Protocol):
    """A number as loaded from its schema."""

    phone_number: str
    status: str | msgspec.UnsetType | None
    carrier: str | msgspec.UnsetType | None
    line_type: str | msgspec.UnsetType | None


class Cause(ItemSchema):
    """An error of a failed message."""

    code = fields.String(required=True)
    title = fields.String(allow_none=True)
    detail = fields.String(allow_none=True)
    meta = any_json()
    source = any_json()


class CauseItem(Protocol):
    """A cause as loaded from its schema."""

    code: str
    title: str | msgspec.UnsetType | None


class Message(ItemSchema):
    """A message, sent or received. Fields declared as ``Raw`` are dropped from events."""

    id = fields.String(required=True, validate=validate.Length(1, 128))
    sender = fields.Nested(Party, data_key="from", required=True)
    to = fields.Nested(Party, many=True, required=True, validate=validate.Length(1))
    cc = any_json()
    text = fields.String(allow_none=True)
    media = any_json()
    parts = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0))
    errors = fields.Nested(Cause, many=True, allow_none=True)
    tags = any_json()
    received_at = UtcTime(*_TIME, allow_none=True)
    sent_at = UtcTime(*_TIME, allow_none=True)
    completed_at = UtcTime(*_TIME, allow_none=True)
    type = fields.String(allow_none=True)
    encoding = fields.String(allow_none=True)
    messaging_profile_id = fields.String(allow_none=True)
    organization_id = fields.String(allow_none=True)
    cost = any_json()
    cost_breakdown = any_json()
    direction = fields.Raw(allow_none=True)
    record_type = fields.Raw(allow_none=True)
    subject = fields.Raw(allow_none=True)
    valid_until = fields.Raw(allow_none=True)  # null once the message is on its way
    webhook_url = fields.Raw(allow_none=True)
    webhook_failover_url = fields.Raw(allow_none=True)


class MessageItem(Protocol):
    """A message as loaded from its schema."""

    id: str
    sender: PartyItem
    to: Sequence[PartyItem]
    cc: Any
    text: str | msgspec.UnsetType | None
    media: Any
    parts: int | msgspec.UnsetType | None
    errors: Sequence[CauseItem] | msgspec.UnsetType | None
    tags: Any
    received_at: str | msgspec.UnsetType | None
    sent_at: str | msgspec.UnsetType | None
    completed_at: str | msgspec.UnsetType | None
    type: str | msgspec.UnsetType | None
    encoding: str | msgspec.UnsetType | None
    messaging_profile_id: str | msgspec.UnsetType | None
    organization_id: str | msgspec.UnsetType | None
    cost: Any
    cost_breakdown: Any


class MessageEvent(ItemSchema):
    """An event of a message."""

    event_type = fields.String(required=True, validate=validate.OneOf([*_SENT, _RECEIVED]))
    occurred_at = UtcTime(*_TIME, required=True)
    payload = fields.Nested(Message, required=True)
    id = fields.Raw(allow_none=True)
    record_type = fields.Raw(allow_none=True)


class MessageEventItem(Protocol):
    """An event as loaded from its schema."""

    event_type: str
    occurred_at: str
    payload: MessageItem


class PublicKey(Secret):
    """The public key of an account: 32 bytes in Base64."""

    def check(self, secret: str, source: str) -> None:
        """Raise ValidationError unless it is a public key."""
        super().check(secret, source)
        try:
            _public_key(secret)
        except ValueError:
            raise ValidationError(
                f"{source}is not a public key; copy it from the portal: 44 characters of Base64."
            ) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TelnyxOptions(ProviderOptions):
    """Options for Telnyx."""

    public_keys: tuple[str, ...] = option(
        secrets(PublicKey()),
        "public keys of the account; two during a rotation",
        (),
    )
    clock_tolerance: float = tolerance_option()
    inconclusive: str = inconclusive_option()


def _event(provider: Telnyx, item: MessageEventItem, unknown: dict[str, Any] | None) -> Event:
    extra = {**unknown.pop("payload", {}), **unknown} if unknown else None
    if item.event_type == _RECEIVED:
        return _reply(provider, item, extra)
    return _report(provider, item, extra)


def _report(provider: Telnyx, item: MessageEventItem, extra: dict[str, Any] | None) -> Event:
    message = item.payload
    recipient = message.to[0]
    if len(message.to) > 1 or message.cc:
        raise ValidationError("Several recipients: the tolerant parser splits them.", "payload.to")
    event_type, status = _outcome(provider, recipient.status)
    cause = message.errors[0] if message.errors and event_type is EventType.FAIL else None
    time = message.completed_at or item.occurred_at
    data = ReportData(
        event_type=event_type,
        message_id=message.id,
        status=status,
        status_desc=cause.code if cause else str(recipient.status),
        description=(cause.title if cause else None) or msgspec.UNSET,
        nation_code=nation_code(recipient.phone_number) or msgspec.UNSET,
        mobile=recipient.phone_number,
        deliver_time=msgspec.UNSET if event_type is EventType.SENT else time,
        session_context={"tags": message.tags} if message.tags else msgspec.UNSET,
        submit_time=message.sent_at or msgspec.UNSET,
        fee_num=message.parts or msgspec.UNSET,
        sender=message.sender.phone_number,
        extra=kept({**_common(message, recipient), "errors": message.errors or None}, extra),
    )
    return Event(event_type, time, encode(data), code=data.status_desc)


def _reply(provider: Telnyx, item: MessageEventItem, extra: dict[str, Any] | None) -> Event:
    message = item.payload
    time = message.received_at or item.occurred_at
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=message.text or "",  # an MMS may have no text
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=message.to[0].phone_number,
        nation_code=nation_code(message.sender.phone_number) or msgspec.UNSET,
        mobile=message.sender.phone_number,
        deliver_time=time,
        extra=kept(
            {
                **_common(message, message.sender),
                "id": message.id,
                "parts": message.parts,
                "media": message.media or None,
                "tags": message.tags or None,
            },
            extra,
        ),
    )
    return Event(EventType.REPLY, time, encode(data))


def _outcome(provider: Telnyx, state: str | msgspec.UnsetType | None) -> Outcome:
    if state == _INCONCLUSIVE:
        return INCONCLUSIVE[provider.options.inconclusive]
    if not state or state not in _OUTCOMES:
        raise ValidationError(f"Must be one of: {', '.join((*_OUTCOMES, _INCONCLUSIVE))}.", "payload.to.status")
    return _OUTCOMES[state]


def _common(message: MessageItem, person: PartyItem) -> dict[str, Any]:
    """Return the ``extra`` fields that sent and received messages share."""
    return {
        "type": message.type,
        "encoding": message.encoding,
        "messaging_profile_id": message.messaging_profile_id,
        "organization_id": message.organization_id,
        "cost": message.cost,
        "cost_breakdown": message.cost_breakdown,
        "carrier": person.carrier or None,
        "line_type": person.line_type or None,
    }


class Telnyx(ItemProvider):
    """The provider ``telnyx``."""

    name = "telnyx"
    title = "Telnyx"
    codes = frozenset({*_OUTCOMES, _INCONCLUSIVE, *_ERRORS.split()})
    options_type = TelnyxOptions
    options: TelnyxOptions
    has_pending = True
    shared_ids = True
    items_in = "data"
    item_types = (ItemType(MessageEvent, ("event_type", "payload"), _event),)
    unlike = "not an event of a message: it would have event_type and payload"

    @property
    def signed(self) -> bool:
        """Whether a public key is configured."""
        return bool(self.options.public_keys)

    @cached_property
    def _keys(self) -> list[Ed25519PublicKey]:
        return [_public_key(text) for text in self.options.public_keys]

    def verify(self, request: CallbackRequest, now: float, _certificate: bytes | None = None) -> None:
        """Check ``telnyx-signature-ed25519``: Ed25519 of time and body."""
        signature = header(request, "telnyx-signature-ed25519")
        time = header(request, "telnyx-timestamp")
        require_recent(seconds_of(time), now, self.options.clock_tolerance)
        signed = time.encode() + b"|" + request.body
        if not any(_has_signed(key, signature, signed) for key in self._keys):
            raise BadSignatureError("the signature is wrong; check the public key")

    def type_of(self, item: dict[str, Any]) -> ItemType[Any, Any]:
        """Return the type of an item; ignore events of link clicks, calls and faxes."""
        item_type = super().type_of(item)
        if isinstance(item.get("event_type"), str) and item["event_type"] not in (*_SENT, _RECEIVED):
            raise IgnoredItem
        return item_type

    def split(self, body: bytes) -> list[tuple[str, bytes]]:
        """Return one item for each recipient of a message."""
        copies = Copies(self.max_items)
        items = [one for item in super().split(body) for one in _recipients(*item, copies)]
        bound(len(items), self.max_items)
        return items


def _public_key(text: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(b64decode(text, validate=True))


def _has_signed(key: Ed25519PublicKey, signature: str, signed: bytes) -> bool:
    try:
        key.verify(b64decode(signature, validate=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _recipients(place: str, raw: bytes, copies: Copies) -> Iterator[tuple[str, bytes]]:
    """Yield place and item for each recipient of a sent message."""
    try:
        event = decode_item(raw)
    except ValidationError:
        event = None  # loading the item reports the error
    recipients = _by_path(event)
    if len(recipients) <= 1:
        yield place, raw
        return
    copies.add(len(recipients))
    copies.share(len(recipients), len(_encode({**event, "payload": {**event["payload"], "to": [], "cc": []}})))
    for path, recipient in recipients.items():
        payload = {**event["payload"], "to": [recipient], "cc": []}
        if isinstance(payload.get("errors"), list):
            payload["errors"] = [error for error in payload["errors"] if _concerns(error, path)]
        yield f"{place}.payload{path.replace('/', '.')}", _encode({**event, "payload": payload})


def _encode(item: Any) -> bytes:  # noqa: ANN401 any JSON
    return msgspec.json.encode(item, order="deterministic")


def _by_path(event: Any) -> dict[str, Any]:  # noqa: ANN401 any JSON
    """Return the recipients of a sent message by JSON pointer, ``/to/0``."""
    payload = event.get("payload") if isinstance(event, dict) and event.get("event_type") in _SENT else None
    lists = {name: payload.get(name) for name in ("to", "cc")} if isinstance(payload, dict) else {}
    return {
        f"/{name}/{at}": recipient
        for name, recipients in lists.items()
        if isinstance(recipients, list)
        for at, recipient in enumerate(recipients)
    }


def _concerns(error: Any, path: str) -> bool:  # noqa: ANN401 any JSON
    """Return whether an error may concern this recipient: its pointer names no other one."""
    try:
        named = _RECIPIENT.search(error["source"]["pointer"])
    except (LookupError, TypeError):
        return True
    return named is None or named[0] == path
