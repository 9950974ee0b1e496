"""AWS End User Messaging SMS: events of sent messages, and two-way SMS, by Amazon SNS over HTTPS.

https://docs.aws.amazon.com/sms-voice/latest/userguide/configuration-sets-event-types.html (events),
https://docs.aws.amazon.com/sms-voice/latest/userguide/two-way-sms-payload.html (two-way SMS),
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html (envelope),
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html (signature).

A configuration set publishes events to a topic, and a phone number publishes replies. A subscription of the topic sends
both here. Raw message delivery must be off, because it has no signature. SNS treats a 4xx as an acknowledgement. A
reply has no time, so its event has the time of publication.
"""

# ruff: noqa: N815 the names of fields are Amazon's
from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from marshmallow import ValidationError, fields, validate

from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import DELIVERED, FAILED, INCONCLUSIVE, PENDING, Outcome, inconclusive_option
from receiver.providers.fields import UtcTime, any_json, nation_code, unix_form
from receiver.providers.item_types import IgnoredItem, ItemSchema, ItemType, kept
from receiver.providers.notifications import (
    PUBLISHED,
    REGION,
    EnvelopeSchema,
    NotificationOptions,
    NotificationProvider,
    sha1_option,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm
    from cryptography.x509 import Certificate

    from receiver.providers.notifications import Envelope

_OUTCOMES: Final[dict[str, Outcome]] = {
    "TEXT_QUEUED": PENDING,
    "TEXT_PENDING": PENDING,
    "TEXT_SENT": PENDING,
    "TEXT_SUCCESSFUL": DELIVERED,  # accepted by the carrier; the final state in some countries
    "TEXT_DELIVERED": DELIVERED,
    "TEXT_BLOCKED": FAILED,
    "TEXT_CARRIER_BLOCKED": FAILED,
    "TEXT_PROTECT_BLOCKED": FAILED,
    "TEXT_TTL_EXPIRED": FAILED,
    "TEXT_UNREACHABLE": FAILED,
    "TEXT_CARRIER_UNREACHABLE": FAILED,
    "TEXT_INVALID": FAILED,
    "TEXT_INVALID_MESSAGE": FAILED,
    "TEXT_SPAM": FAILED,
}
#: Also sent after 72 hours without news.
_INCONCLUSIVE: Final = "TEXT_UNKNOWN"
#: Events of voice, MMS, RCS and registrations can use the same topic.
_ABOUT_SMS: Final = "TEXT_"
_DIGESTS: Final[dict[str, HashAlgorithm]] = {"1": SHA1(), "2": SHA256()}  # noqa: S303 a topic's default
_TIME: Final = (unix_form(1000), "1686975103470")


class AmazonEnvelope(EnvelopeSchema):
    """The envelope of Amazon SNS."""

    type = fields.String(data_key="Type", required=True)
    topic = fields.String(data_key="TopicArn", required=True)
    message_id = fields.String(data_key="MessageId", required=True)
    message = fields.String(data_key="Message", required=True)
    subject = fields.String(data_key="Subject", allow_none=True)
    timestamp = fields.String(data_key="Timestamp", required=True)
    token = fields.String(data_key="Token", allow_none=True)
    subscribe_url = fields.String(data_key="SubscribeURL", allow_none=True)
    signature = fields.String(data_key="Signature", required=True)
    signature_version = fields.String(data_key="SignatureVersion", required=True)
    certificate_url = fields.String(data_key="SigningCertURL", required=True)


class MessageEvent(ItemSchema):
    """An event of a sent message."""

    eventType = fields.String(required=True)
    isFinal = fields.Boolean(required=True, truthy={True}, falsy={False})
    messageId = fields.String(required=True, validate=validate.Length(1, 128))
    destinationPhoneNumber = fields.String(required=True, validate=validate.Length(1, 64))
    messageStatus = fields.String(allow_none=True)
    messageStatusDescription = fields.String(allow_none=True)
    eventTimestamp = UtcTime(*_TIME, allow_none=True)
    messageRequestTimestamp = UtcTime(*_TIME, allow_none=True)
    originationPhoneNumber = fields.String(allow_none=True)
    totalMessageParts = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0))
    context = any_json()
    isoCountryCode = fields.String(allow_none=True)
    mcc = fields.String(allow_none=True)
    mnc = fields.String(allow_none=True)
    messageEncoding = fields.String(allow_none=True)
    messageType = fields.String(allow_none=True)
    isInternationalSend = any_json()
    totalMessagePrice = any_json()
    totalCarrierFee = any_json()
    eventVersion = fields.String(allow_none=True)


class MessageEventItem(Protocol):
    """An event of a message as loaded from its schema."""

    eventType: str
    isFinal: bool
    messageId: str
    destinationPhoneNumber: str
    messageStatus: str | msgspec.UnsetType | None
    messageStatusDescription: str | msgspec.UnsetType | None
    eventTimestamp: str | msgspec.UnsetType | None
    messageRequestTimestamp: str | msgspec.UnsetType | None
    originationPhoneNumber: str | msgspec.UnsetType | None
    totalMessageParts: int | msgspec.UnsetType | None
    context: Any
    isoCountryCode: str | msgspec.UnsetType | None
    mcc: str | msgspec.UnsetType | None
    mnc: str | msgspec.UnsetType | None
    messageEncoding: str | msgspec.UnsetType | None
    messageType: str | msgspec.UnsetType | None
    isInternationalSend: Any
    totalMessagePrice: Any
    totalCarrierFee: Any


class InboundMessage(ItemSchema):
    """A message that a person sent. The id is required: it distinguishes repeated texts."""

    inboundMessageId = fields.String(required=True, validate=validate.Length(1, 128))
    originationNumber = fields.String(required=True, validate=validate.Length(1, 64))
    destinationNumber = fields.String(allow_none=True)
    messageBody = fields.String(required=True)
    messageKeyword = fields.String(allow_none=True)
    previousPublishedMessageId = fields.String(allow_none=True)


class InboundMessageItem(Protocol):
    """An inbound message as loaded from its schema."""

    inboundMessageId: str
    originationNumber: str
    destinationNumber: str | msgspec.UnsetType | None
    messageBody: str
    messageKeyword: str | msgspec.UnsetType | None
    previousPublishedMessageId: str | msgspec.UnsetType | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmazonOptions(NotificationOptions):
    """Options for Amazon SNS. A topic signs with SHA-1 unless its SignatureVersion is 2."""

    allow_sha1: bool = sha1_option(default=True)
    inconclusive: str = inconclusive_option("fail")


def _event(provider: AmazonSns, item: MessageEventItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _outcome(provider, item)
    time = item.eventTimestamp or None
    data = ReportData(
        event_type=event_type,
        message_id=item.messageId,
        status=status,
        status_desc=item.messageStatus or item.eventType,
        description=item.messageStatusDescription or msgspec.UNSET,
        nation_code=nation_code(item.destinationPhoneNumber) or msgspec.UNSET,
        mobile=item.destinationPhoneNumber,
        deliver_time=time if time and event_type is not EventType.SENT else msgspec.UNSET,
        session_context=item.context or msgspec.UNSET,
        submit_time=item.messageRequestTimestamp or msgspec.UNSET,
        fee_num=item.totalMessageParts or msgspec.UNSET,
        sender=item.originationPhoneNumber or msgspec.UNSET,
        extra=kept(
            {
                "isoCountryCode": item.isoCountryCode,
                "mcc": item.mcc,
                "mnc": item.mnc,
                "messageEncoding": item.messageEncoding,
                "messageType": item.messageType,
                "isInternationalSend": item.isInternationalSend,
                "totalMessagePrice": item.totalMessagePrice,
                "totalCarrierFee": item.totalCarrierFee,
            },
            extra,
        ),
    )
    return Event(event_type, time, encode(data), code=data.status_desc)


def _outcome(provider: AmazonSns, item: MessageEventItem) -> Outcome:
    if not item.eventType.startswith(_ABOUT_SMS):
        raise IgnoredItem
    if not item.isFinal:
        return PENDING
    if item.eventType == _INCONCLUSIVE:
        return INCONCLUSIVE[provider.options.inconclusive]
    if item.eventType not in _OUTCOMES:
        raise ValidationError(f"Must be one of: {', '.join((*_OUTCOMES, _INCONCLUSIVE))}.", "eventType")
    return _OUTCOMES[item.eventType]


def _inbound(provider: AmazonSns, item: InboundMessageItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.messageBody,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.destinationNumber or msgspec.UNSET,
        nation_code=nation_code(item.originationNumber) or msgspec.UNSET,
        mobile=item.originationNumber,
        in_reply_to=item.previousPublishedMessageId or msgspec.UNSET,
        extra=kept({"inboundMessageId": item.inboundMessageId, "messageKeyword": item.messageKeyword}, extra),
    )
    return Event(EventType.REPLY, None, encode(data))


class AmazonSns(NotificationProvider):
    """The provider ``amazon-sns``."""

    name = "amazon-sns"
    title = "Amazon SNS"
    codes = frozenset(
        name for event_type in (*_OUTCOMES, _INCONCLUSIVE) for name in (event_type, event_type.removeprefix(_ABOUT_SMS))
    )
    options_type = AmazonOptions
    options: AmazonOptions
    has_pending = True
    shared_ids = True
    envelope_schema = AmazonEnvelope
    hosts = (rf"sns\.{REGION}\.amazonaws\.com(?:\.cn)?",)
    item_types = (
        ItemType(MessageEvent, ("eventType", "messageId", "destinationPhoneNumber"), _event),
        ItemType(InboundMessage, ("inboundMessageId", "messageBody", "originationNumber"), _inbound),
    )
    unlike = "neither an event of a message (it would have eventType) nor an inbound message (inboundMessageId)"

    def digest(self, envelope: Envelope, _certificate: Certificate) -> HashAlgorithm | None:
        """Return the digest of the envelope's SignatureVersion."""
        return _DIGESTS.get(envelope.signature_version)

    def type_of(self, item: dict[str, Any]) -> ItemType[Any, Any]:
        """Return the type of an item; ignore events that are not about SMS."""
        event_type = item.get("eventType")
        if isinstance(event_type, str) and not event_type.startswith(_ABOUT_SMS):
            raise IgnoredItem
        return super().type_of(item)

    def event(self, event: Event, envelope: Envelope) -> Event:
        """Give a reply the time of publication. The event's id excludes it, because it may differ in a retry."""
        if event.type is not EventType.REPLY:
            return event
        data = msgspec.json.decode(event.data, type=ReplyData)
        data.deliver_time = PUBLISHED.deserialize(envelope.timestamp)
        return Event(event.type, data.deliver_time, encode(data), event.data)
