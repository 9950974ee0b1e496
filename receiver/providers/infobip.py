"""Infobip SMS: delivery reports and inbound messages, in a list of ``results``, as JSON.

https://www.infobip.com/docs/api/channels/sms (reports and inbound messages of the older and newer API),
https://www.infobip.com/docs/essentials/api-essentials/response-status-and-error-codes (groups and codes),
https://www.infobip.com/docs/developer-resources/api-fundamentals/message-status-codes (which are final),
https://www.infobip.com/docs/api/platform/subscriptions-api (Basic authentication of a notification profile).

``DELIVERED_TO_OPERATOR`` is in the group of delivered states, but another report may follow: ``inconclusive`` decides.

Times have an offset without a colon, not always UTC. Invalid items are acknowledged once they are in the quarantine,
because Infobip would retry a refused list for days.

A profile can sign its callbacks (``HMAC``), but the format of that signature is not public. Use Basic authentication or
a key in the URL.
"""

# ruff: noqa: N815 the names of fields are Infobip's
from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from marshmallow import ValidationError, fields, validate

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
)
from receiver.providers.fields import UtcTime, any_json, iso_form, nation_code
from receiver.providers.item_types import IgnoredItem, ItemProvider, ItemSchema, ItemType, kept
from receiver.providers.signatures import require_basic
from receiver.setting_fields import secrets

if TYPE_CHECKING:
    from receiver.providers.base import CallbackRequest

#: By ``groupName``, in the order of ``groupId``.
_OUTCOMES: Final[dict[str, Outcome]] = {
    "ACCEPTED": PENDING,
    "PENDING": PENDING,
    "UNDELIVERABLE": FAILED,
    "DELIVERED": DELIVERED,
    "EXPIRED": FAILED,
    "REJECTED": FAILED,
}
_GROUPS: Final = tuple(_OUTCOMES)
#: The operator has the message. A report of the handset may follow or not.
_INCONCLUSIVE: Final = "DELIVERED_TO_OPERATOR"
#: Names of states, then of errors.
_NAMES: Final = (
    "PENDING_WAITING_DELIVERY PENDING_ENROUTE PENDING_ACCEPTED DELIVERED_TO_OPERATOR DELIVERED_TO_HANDSET"
    " UNDELIVERABLE_REJECTED_OPERATOR UNDELIVERABLE_NOT_DELIVERED UNDELIVERABLE_NOT_SENT"
    " UNDELIVERABLE_REJECTED_PLATFORM EXPIRED_EXPIRED EXPIRED_DLR_UNKNOWN REJECTED_NETWORK REJECTED_PREFIX_MISSING"
    " REJECTED_DND REJECTED_SOURCE REJECTED_NOT_ENOUGH_CREDITS REJECTED_SENDER REJECTED_DESTINATION"
    " REJECTED_DESTINATION_BLOCKLISTED REJECTED_PREPAID_PACKAGE_EXPIRED REJECTED_DESTINATION_NOT_REGISTERED"
    " REJECTED_ROUTE_NOT_AVAILABLE REJECTED_FLOODING_FILTER REJECTED_SYSTEM_ERROR REJECTED_DUPLICATE_MESSAGE_ID"
    " REJECTED_INVALID_UDH REJECTED_MESSAGE_TOO_LONG MISSING_TO SIGNALS_BLOCKED"
    " EC_UNKNOWN_SUBSCRIBER EC_UNKNOWN_BASE_STATION EC_UNIDENTIFIED_SUBSCRIBER EC_ABSENT_SUBSCRIBER"
    " EC_ABSENT_SUBSCRIBER_SM EC_UNKNOWN_EQUIPMENT EC_ROAMING_NOT_ALLOWED EC_ILLEGAL_SUBSCRIBER EC_ILLEGAL_EQUIPMENT"
    " EC_BEARER_SERVICE_NOT_PROVISIONED EC_TELESERVICE_NOT_PROVISIONED EC_CALL_BARRED EC_FACILITY_NOT_SUPPORTED"
    " EC_SUBSCRIBER_BUSY_FOR_MT_SMS EC_SM_DELIVERY_FAILURE EC_SM_DF_MEMORYCAPACITYEXCEEDED"
    " EC_SM_DF_EQUIPMENTPROTOCOLERROR EC_MESSAGE_WAITING_LIST_FULL EC_SYSTEM_FAILURE EC_DATA_MISSING"
    " EC_UNEXPECTED_DATA_VALUE EC_RESOURCE_LIMITATION EC_UNKNOWN_ERROR EC_TIME_OUT EC_NO_RESPONSE EC_VALIDITY_EXPIRED"
    " EC_PROVIDER_GENERAL_ERROR EC_INVALID_DESTINATION_ADDRESS EC_INVALID_SOURCE_ADDRESS EC_CONTENT_BLOCKED"
    " EC_CONTENT_BLOCKED_BY_OPERATOR EC_REJECTED_SPAM_BY_OPERATOR EC_SMS_REJECTED_BY_MOBILE_OPERATOR"
    " EC_DESTINATION_BLOCKED_BY_OPERATOR EC_DEST_ADDRESS_BLACKLISTED EC_BLACKLISTED_DESTINATIONADDRESS"
    " EC_BLACKLISTED_SENDERADDRESS EC_SIGNALS_BLOCKED EC_MESSAGE_CANCELED EC_DESTINATION_FLOODING"
    " EC_DESTINATION_TXT_FLOODING EC_10DLC_LIMIT_REACHED"
)
_TIME: Final = (iso_form, "2026-03-01T02:00:03.112+0000")
_NO_ERROR: Final = "NO_ERROR"


class Status(ItemSchema):
    """The status of a message. Its group determines the outcome."""

    groupId = fields.Integer(strict=True, validate=validate.Range(0, len(_GROUPS) - 1))
    groupName = fields.String(validate=validate.OneOf(_GROUPS))
    id = fields.Raw(allow_none=True)
    name = fields.String(allow_none=True)
    description = fields.String(allow_none=True)
    action = fields.Raw(allow_none=True)


class StatusItem(Protocol):
    """A state as loaded from its schema."""

    groupId: int | msgspec.UnsetType
    groupName: str | msgspec.UnsetType
    name: str | msgspec.UnsetType | None
    description: str | msgspec.UnsetType | None


class Error(ItemSchema):
    """The error of a failed message, or ``NO_ERROR``."""

    groupId = fields.Raw(allow_none=True)
    groupName = fields.String(allow_none=True)
    id = fields.Raw(allow_none=True)
    name = fields.String(allow_none=True)
    description = fields.String(allow_none=True)
    permanent = fields.Raw(allow_none=True)


class ErrorItem(Protocol):
    """An error as loaded from its schema."""

    name: str | msgspec.UnsetType | None
    description: str | msgspec.UnsetType | None


class Report(ItemSchema):
    """A delivery report. The newer API has ``sender`` and ``messageCount`` for ``from`` and ``smsCount``."""

    messageId = fields.String(required=True, validate=validate.Length(1, 128))
    status = fields.Nested(Status, required=True)
    error = fields.Nested(Error, allow_none=True)
    to = fields.String(allow_none=True, validate=validate.Length(1, 64))
    from_ = fields.String(data_key="from", allow_none=True)
    sender = fields.String(allow_none=True)
    sentAt = UtcTime(*_TIME, allow_none=True)
    doneAt = UtcTime(*_TIME, allow_none=True)
    smsCount = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0))
    messageCount = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0))
    callbackData = fields.String(allow_none=True)
    bulkId = fields.String(allow_none=True)
    mccMnc = fields.String(allow_none=True)
    price = any_json()
    entityId = fields.String(allow_none=True)
    applicationId = fields.String(allow_none=True)
    platform = any_json()
    campaignReferenceId = fields.String(allow_none=True)


class ReportItem(Protocol):
    """A delivery report as loaded from its schema."""

    messageId: str
    status: StatusItem
    error: ErrorItem | msgspec.UnsetType | None
    to: str | msgspec.UnsetType | None
    from_: str | msgspec.UnsetType | None
    sender: str | msgspec.UnsetType | None
    sentAt: str | msgspec.UnsetType | None
    doneAt: str | msgspec.UnsetType | None
    smsCount: int | msgspec.UnsetType | None
    messageCount: int | msgspec.UnsetType | None
    callbackData: str | msgspec.UnsetType | None
    bulkId: str | msgspec.UnsetType | None
    mccMnc: str | msgspec.UnsetType | None
    price: Any
    entityId: str | msgspec.UnsetType | None
    applicationId: str | msgspec.UnsetType | None
    platform: Any
    campaignReferenceId: str | msgspec.UnsetType | None


class Inbound(ItemSchema):
    """A message that a person sent."""

    messageId = fields.String(required=True)
    sender = fields.String(data_key="from", required=True, validate=validate.Length(1, 64))
    to = fields.String(allow_none=True)
    text = fields.String(required=True)
    receivedAt = UtcTime(*_TIME, allow_none=True)
    cleanText = fields.String(allow_none=True)
    keyword = fields.String(allow_none=True)
    smsCount = any_json()
    price = any_json()
    callbackData = any_json()
    entityId = fields.String(allow_none=True)
    applicationId = fields.String(allow_none=True)
    campaignReferenceId = fields.String(allow_none=True)


class InboundItem(Protocol):
    """An inbound message as loaded from its schema."""

    messageId: str
    sender: str
    to: str | msgspec.UnsetType | None
    text: str
    receivedAt: str | msgspec.UnsetType | None
    cleanText: str | msgspec.UnsetType | None
    keyword: str | msgspec.UnsetType | None
    smsCount: Any
    price: Any
    callbackData: Any
    entityId: str | msgspec.UnsetType | None
    applicationId: str | msgspec.UnsetType | None
    campaignReferenceId: str | msgspec.UnsetType | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfobipOptions(ProviderOptions):
    """Options for Infobip."""

    credentials: tuple[str, ...] = option(secrets(), '"user:password" of Basic authentication; any of them', ())
    inconclusive: str = inconclusive_option("success")


def _report(provider: Infobip, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    group = _group(item.status)
    outcome = INCONCLUSIVE[provider.options.inconclusive] if item.status.name == _INCONCLUSIVE else _OUTCOMES[group]
    event_type, status = outcome
    error = item.error if item.error and item.error.name != _NO_ERROR else None
    cause = error if error and error.name and event_type is EventType.FAIL else item.status
    time = item.doneAt or None
    to = item.to or ""
    data = ReportData(
        event_type=event_type,
        message_id=item.messageId,
        status=status,
        status_desc=cause.name or group,
        description=cause.description or msgspec.UNSET,
        nation_code=nation_code(to, plus=False) or msgspec.UNSET,
        mobile=to or msgspec.UNSET,
        deliver_time=time if time and event_type is not EventType.SENT else msgspec.UNSET,
        session_context=item.callbackData or msgspec.UNSET,
        submit_time=item.sentAt or msgspec.UNSET,
        fee_num=item.smsCount or item.messageCount or msgspec.UNSET,
        sender=item.from_ or item.sender or msgspec.UNSET,
        extra=kept(
            {
                "status": item.status,
                "error": error,
                "bulkId": item.bulkId,
                "mccMnc": item.mccMnc,
                "price": item.price,
                "entityId": item.entityId,
                "applicationId": item.applicationId,
                "platform": item.platform,
                "campaignReferenceId": item.campaignReferenceId,
            },
            extra,
        ),
    )
    return Event(event_type, time, encode(data), code=data.status_desc)


def _group(status: StatusItem) -> str:
    if isinstance(status.groupName, str):
        return status.groupName
    if isinstance(status.groupId, int):
        return _GROUPS[status.groupId]
    raise ValidationError("Missing data for required field.", "status.groupName")


def _inbound(provider: Infobip, item: InboundItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.to or msgspec.UNSET,
        nation_code=nation_code(item.sender, plus=False) or msgspec.UNSET,
        mobile=item.sender,
        deliver_time=item.receivedAt or msgspec.UNSET,
        extra=kept(
            {
                "messageId": item.messageId,
                "cleanText": item.cleanText,
                "keyword": item.keyword,
                "smsCount": item.smsCount,
                "price": item.price,
                "callbackData": item.callbackData,
                "entityId": item.entityId,
                "applicationId": item.applicationId,
                "campaignReferenceId": item.campaignReferenceId,
            },
            extra,
        ),
    )
    return Event(EventType.REPLY, item.receivedAt or None, encode(data))


class Infobip(ItemProvider):
    """The provider ``infobip``."""

    name = "infobip"
    title = "Infobip SMS"
    codes = frozenset({*_OUTCOMES, *_NAMES.split()})
    options_type = InfobipOptions
    options: InfobipOptions
    has_pending = True
    drops_on_4xx = True
    items_in = "results"
    item_types = (
        ItemType(Report, ("status", "sentAt", "doneAt"), _report),
        ItemType(Inbound, ("receivedAt", "text", "message"), _inbound),
    )
    unlike = "neither a report (it would have status) nor an inbound message (receivedAt)"

    @property
    def signed(self) -> bool:
        """Whether credentials are configured."""
        return bool(self.options.credentials)

    def verify(self, request: CallbackRequest, _now: float, _certificate: bytes | None = None) -> None:
        """Check the Basic authentication."""
        require_basic(request, self.options.credentials)

    def type_of(self, item: dict[str, Any]) -> ItemType[Any, Any]:
        """Return the type of an item; ignore inbound MMS, which have ``message`` instead of ``text``."""
        if "receivedAt" in item and "message" in item and "text" not in item:
            raise IgnoredItem
        return super().type_of(item)
