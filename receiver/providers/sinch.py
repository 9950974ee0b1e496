"""Sinch SMS: delivery reports (of a recipient or a batch) and inbound messages, one a request, as JSON.

https://developers.sinch.com/docs/sms/api-reference/sms/tag/Webhooks/ (callbacks),
https://developers.sinch.com/docs/sms/api-reference/sms/tag/Delivery-reports/ (states and codes),
https://github.com/sinch/sinch-sdk-python (signature).

The send call returns only a ``batch_id``: together with the recipient it identifies a message. A ``full`` batch report
becomes one event for each recipient. A ``summary`` has no recipients and goes to the quarantine, so request ``full``,
``per_recipient`` or ``per_recipient_final``.

Sinch retries only after 429 and 5xx, so invalid items are acknowledged once they are in the quarantine. The account
manager enables Basic authentication and signatures. Nonces are not stored: a replayed callback becomes the same event.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from marshmallow import ValidationError, fields, validate

from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import (
    DELIVERED,
    FAILED,
    FAST,
    INCONCLUSIVE,
    PENDING,
    Outcome,
    ProviderOptions,
    inconclusive_option,
    option,
    tolerance_option,
)
from receiver.providers.fields import UtcTime, any_json, iso_form, nation_code
from receiver.providers.item_types import UNFIT, IgnoredItem, ItemProvider, ItemSchema, ItemType, kept
from receiver.providers.json_items import MAX_COPIED, Copies, bound, decode_item
from receiver.providers.signatures import header, require_basic, require_match, require_recent, seconds_of
from receiver.setting_fields import secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.providers.base import CallbackRequest, ParsedCallback

#: By state in lower case: payloads have ``Delivered``, SDKs have ``DELIVERED``.
_OUTCOMES: Final[dict[str, Outcome]] = {
    "queued": PENDING,
    "dispatched": PENDING,
    "delivered": DELIVERED,
    "aborted": FAILED,
    "cancelled": FAILED,
    "rejected": FAILED,
    "deleted": FAILED,
    "failed": FAILED,
    "expired": FAILED,
}
#: https://developers.sinch.com/docs/sms/api-reference/sms/tag/Delivery-reports/; there is no 409.
_CODES: Final = "0 400 401 402 403 404 405 406 407 408 410 411 412 413 414 415 416 417 418"
#: The SMSC accepted the message, without a readable receipt. Sinch calls it final.
_INCONCLUSIVE: Final = "unknown"
_STATES: Final = [form for state in (*_OUTCOMES, _INCONCLUSIVE) for form in (state, state.title(), state.upper())]
#: The member that only batch reports have.
_STATUSES: Final = b'"statuses"'
#: Bytes that the fast parser copies: some 3 ms on the event loop.
_MAX_FAST: Final = 1 << 20
_BATCH: Final = "delivery_report_sms"
_REPORTS: Final = ("recipient_delivery_report_sms", _BATCH)
_REPLIES: Final = ("mo_text", "mo_binary")
_NOT_SMS: Final = ("recipient_delivery_report_mms", "delivery_report_mms", "mo_media")
_TIME: Final = (iso_form, "2026-03-01T02:00:05.210Z")
_NO_RECIPIENT: Final = (
    "Missing. A summary has no recipients; set delivery_report to full, per_recipient or per_recipient_final."
)


class Report(ItemSchema):
    """The status of a message to one recipient. Entries of a batch report are converted to this form."""

    type = fields.String(required=True, validate=validate.OneOf(_REPORTS))
    batch_id = fields.String(required=True, validate=validate.Length(1, 128))
    recipient = fields.String(
        required=True, validate=validate.Length(1, 64), error_messages={"required": _NO_RECIPIENT}
    )
    code = fields.Integer(required=True, strict=True)
    status = fields.String(required=True, validate=validate.OneOf(_STATES))
    operator_status_at = UtcTime(*_TIME, allow_none=True)
    at = UtcTime(*_TIME, allow_none=True)
    client_reference = fields.String(allow_none=True)
    number_of_message_parts = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0))
    applied_originator = fields.String(allow_none=True)
    operator = fields.String(allow_none=True)
    encoding = fields.String(allow_none=True)


class ReportItem(Protocol):
    """A report as loaded from its schema."""

    type: str
    batch_id: str
    recipient: str
    code: int
    status: str
    operator_status_at: str | msgspec.UnsetType | None
    at: str | msgspec.UnsetType | None
    client_reference: str | msgspec.UnsetType | None
    number_of_message_parts: int | msgspec.UnsetType | None
    applied_originator: str | msgspec.UnsetType | None
    operator: str | msgspec.UnsetType | None
    encoding: str | msgspec.UnsetType | None


class InboundMessage(ItemSchema):
    """A message that a person sent. The ``body`` of ``mo_binary`` is in Base64."""

    type = fields.String(required=True, validate=validate.OneOf(_REPLIES))
    id = fields.String(required=True)
    sender = fields.String(required=True, data_key="from", validate=validate.Length(1, 64))
    to = fields.String(required=True)
    body = fields.String(required=True)
    received_at = UtcTime(*_TIME, allow_none=True)
    sent_at = any_json()
    operator_id = fields.String(allow_none=True)
    client_reference = fields.String(allow_none=True)
    udh = fields.String(allow_none=True)


class InboundMessageItem(Protocol):
    """An inbound message as loaded from its schema."""

    type: str
    id: str
    sender: str
    to: str
    body: str
    received_at: str | msgspec.UnsetType | None
    sent_at: Any
    operator_id: str | msgspec.UnsetType | None
    client_reference: str | msgspec.UnsetType | None
    udh: str | msgspec.UnsetType | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinchOptions(ProviderOptions):
    """Options for Sinch. Every callback must pass all configured checks."""

    webhook_secrets: tuple[str, ...] = option(secrets(), "secrets of the signature; two during a rotation", ())
    credentials: tuple[str, ...] = option(secrets(), '"user:password" of Basic authentication; any of them', ())
    clock_tolerance: float = tolerance_option()
    inconclusive: str = inconclusive_option()


def _report(provider: Sinch, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    state = item.status.lower()
    event_type, status = _OUTCOMES.get(state) or INCONCLUSIVE[provider.options.inconclusive]
    time = item.operator_status_at or item.at or None
    data = ReportData(
        event_type=event_type,
        message_id=item.batch_id,
        status=status,
        status_desc=str(item.code),
        description=item.status,
        nation_code=nation_code(item.recipient, plus=False) or msgspec.UNSET,
        mobile=item.recipient,
        deliver_time=time if time and event_type is not EventType.SENT else msgspec.UNSET,
        session_context=item.client_reference or msgspec.UNSET,
        fee_num=item.number_of_message_parts or msgspec.UNSET,
        sender=item.applied_originator or msgspec.UNSET,
        extra=kept({"operator": item.operator, "encoding": item.encoding}, extra),
    )
    return Event(event_type, time, encode(data), code=data.status_desc)


def _inbound(provider: Sinch, item: InboundMessageItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.body,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.to,
        nation_code=nation_code(item.sender, plus=False) or msgspec.UNSET,
        mobile=item.sender,
        deliver_time=item.received_at or msgspec.UNSET,
        extra=kept(
            {
                "type": item.type,
                "id": item.id,
                "sent_at": item.sent_at,
                "operator_id": item.operator_id,
                "client_reference": item.client_reference,  # that of the answered message, not its id
                "udh": item.udh,
            },
            extra,
        ),
    )
    return Event(EventType.REPLY, item.received_at or None, encode(data))


_INBOUND: Final = ItemType(InboundMessage, ("from", "body", "received_at"), _inbound)
_REPORT: Final = ItemType(Report, ("batch_id", "recipient", "code", "status"), _report)


class Sinch(ItemProvider):
    """The provider ``sinch``."""

    name = "sinch"
    title = "Sinch SMS"
    codes = frozenset(_CODES.split())
    options_type = SinchOptions
    options: SinchOptions
    has_pending = True
    shared_ids = True
    drops_on_4xx = True
    item_types = (_INBOUND, _REPORT)
    unlike = "neither a delivery report (it would have batch_id and status) nor an inbound message (from and body)"

    @property
    def signed(self) -> bool:
        """Whether a secret or credentials are configured."""
        return bool(self.options.webhook_secrets or self.options.credentials)

    def verify(self, request: CallbackRequest, now: float, _certificate: bytes | None = None) -> None:
        """Check the configured ones of Basic authentication and HMAC-SHA256 (of body, nonce and time)."""
        if self.options.credentials:
            require_basic(request, self.options.credentials)
        if self.options.webhook_secrets:
            self._verify_signature(request, now)

    def _verify_signature(self, request: CallbackRequest, now: float) -> None:
        given = header(request, "x-sinch-webhook-signature")
        nonce = header(request, "x-sinch-webhook-signature-nonce")
        time = header(request, "x-sinch-webhook-signature-timestamp")
        signed = b".".join((request.body, nonce.encode(), time.encode()))
        digests = (hmac.digest(secret.encode(), signed, hashlib.sha256) for secret in self.options.webhook_secrets)
        require_match(given, (b64encode(digest).decode() for digest in digests))
        require_recent(seconds_of(time), now, self.options.clock_tolerance)

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse a callback in the expected format, in a few µs a recipient. Returns None for any other."""
        parsed = super().parse_fast(request)
        if parsed is not None or _STATUSES not in request.body:
            return parsed
        try:
            items = self._split(request.body, _MAX_FAST)
            events = [_report(self, _REPORT.one.decode(raw), None) for _, raw in items]
        except UNFIT:  # TooManyItemsError among them: the tolerant parser allows more copies, and runs in a thread
            return None
        return self.parsed(events, [], FAST)

    def type_of(self, item: dict[str, Any]) -> ItemType[Any, Any]:
        """Return the type of an item; ignore MMS."""
        if item.get("type") in _NOT_SMS:
            raise IgnoredItem
        return super().type_of(item)

    def split(self, body: bytes) -> list[tuple[str, bytes]]:
        """Return one item for each recipient of a batch report, or the only item of other callbacks."""
        return self._split(body, MAX_COPIED)

    def _split(self, body: bytes, max_copied: int) -> list[tuple[str, bytes]]:
        items = super().split(body)
        if _STATUSES in body:
            copies = Copies(self.max_items, max_copied)
            items = [one for item in items for one in _recipients(*item, copies)]
            bound(len(items), self.max_items)
        return items


def _recipients(place: str, raw: bytes, copies: Copies) -> Iterator[tuple[str, bytes]]:
    """Yield place and item for each recipient of a batch report."""
    try:
        report = decode_item(raw)
    except ValidationError:
        report = None  # loading the item reports the error
    if not isinstance(report, dict) or not isinstance(report.get("statuses"), list):
        yield place, raw
        return
    common = {name: value for name, value in report.items() if name not in ("statuses", "total_message_count")}
    copies.share(len(report["statuses"]), len(_encode(common)))
    for index, entry in enumerate(report["statuses"]):
        where = f"{place}statuses[{index}]"
        recipients = entry.get("recipients") if isinstance(entry, dict) else None
        if isinstance(recipients, list):
            item = {**common, **{name: value for name, value in entry.items() if name not in ("recipients", "count")}}
            copies.add(len(recipients))
            copies.share(len(recipients), len(_encode(item)))
            for at, recipient in enumerate(recipients):
                yield f"{where}.recipients[{at}]", _encode({**item, "recipient": recipient})
        else:  # a summary
            copies.add(1)
            yield where, _encode({**common, **entry} if isinstance(entry, dict) else entry)


def _encode(item: Any) -> bytes:  # noqa: ANN401 any JSON
    return msgspec.json.encode(item, order="deterministic")
