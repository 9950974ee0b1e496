"""Africa's Talking SMS: delivery reports and incoming messages, one a request, as a form.

https://developers.africastalking.com/docs/sms/notifications (both, with states and reasons).

Requests are not signed, and delivery reports have no time. Notifications of opt-outs and subscriptions have their own
URLs. Those that arrive here are acknowledged without an event.
"""

# ruff: noqa: N815 the names of fields are Africa's Talking's
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from marshmallow import fields, validate

from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import DELIVERED, FAILED, PENDING, Outcome
from receiver.providers.fields import UtcTime, iso_form, nation_code
from receiver.providers.forms import FormProvider, filled
from receiver.providers.item_types import IgnoredItem, ItemSchema, ItemType, kept

if TYPE_CHECKING:
    from receiver.providers.base import CallbackRequest

#: ``NotNetworkSubcriber`` is the documented spelling. Clients know both.
_FAILURES: Final = (
    "InsufficientCredit InvalidLinkId UserIsInactive UserInBlackList UserAccountSuspended NotNetworkSubcriber"
    " NotNetworkSubscriber UserNotSubscribedToProduct UserDoesNotExist DeliveryFailure DoNotDisturbRejection"
)
_OUTCOMES: Final[dict[str, Outcome]] = {
    "Sent": PENDING,
    "Submitted": PENDING,
    "Buffered": PENDING,
    "Success": DELIVERED,
    "Rejected": FAILED,
    "Failed": FAILED,
    "Expired": FAILED,
    "AbsentSubscriber": FAILED,
}
#: Fields of opt-outs and subscriptions that messages lack.
_NOT_SMS: Final = frozenset({"senderId", "updateType"})


class Report(ItemSchema):
    """A delivery report. Older reports have no number."""

    id = fields.String(required=True, validate=validate.Length(1, 128))
    status = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES]))
    failureReason = fields.String()
    phoneNumber = fields.String(validate=validate.Length(1, 64))
    networkCode = fields.String()
    retryCount = fields.String()


class ReportItem(Protocol):
    """A delivery report as loaded from its schema."""

    id: str
    status: str
    failureReason: str | msgspec.UnsetType
    phoneNumber: str | msgspec.UnsetType
    networkCode: str | msgspec.UnsetType
    retryCount: str | msgspec.UnsetType


class IncomingMessage(ItemSchema):
    """A message that a person sent. ``linkId`` is needed to answer an on-demand message."""

    sender = fields.String(data_key="from", required=True, validate=validate.Length(1, 64))
    to = fields.String(required=True)
    text = fields.String(required=True)
    date = UtcTime(iso_form, "2026-03-01T02:05:00Z")
    id = fields.String()
    linkId = fields.String()
    networkCode = fields.String()
    cost = fields.String()


class IncomingMessageItem(Protocol):
    """An incoming message as loaded from its schema."""

    sender: str
    to: str
    text: str
    date: str | msgspec.UnsetType
    id: str | msgspec.UnsetType
    linkId: str | msgspec.UnsetType
    networkCode: str | msgspec.UnsetType
    cost: str | msgspec.UnsetType


def _report(_provider: AfricasTalking, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES[item.status]
    data = ReportData(
        event_type=event_type,
        message_id=item.id,
        status=status,
        status_desc=item.failureReason or item.status,
        nation_code=nation_code(item.phoneNumber or "") or msgspec.UNSET,
        mobile=item.phoneNumber,
        extra=kept({"networkCode": item.networkCode, "retryCount": item.retryCount}, extra),
    )
    return Event(event_type, None, encode(data), code=data.status_desc)


def _incoming(provider: AfricasTalking, item: IncomingMessageItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.text,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.to,
        nation_code=nation_code(item.sender) or msgspec.UNSET,
        mobile=item.sender,
        deliver_time=item.date,
        extra=kept(
            {"id": item.id, "linkId": item.linkId, "networkCode": item.networkCode, "cost": item.cost},
            extra,
        ),
    )
    return Event(EventType.REPLY, item.date or None, encode(data))


class AfricasTalking(FormProvider):
    """The provider ``africastalking``."""

    name = "africastalking"
    title = "Africa's Talking SMS"
    codes = frozenset({*_OUTCOMES, *_FAILURES.split()})
    methods = frozenset({"POST"})
    has_pending = True
    item_types = (
        ItemType(Report, ("status",), _report),
        ItemType(IncomingMessage, ("text",), _incoming),
    )
    unlike = "neither a delivery report (it would have status) nor an incoming message (text)"

    def item_of(self, request: CallbackRequest) -> dict[str, Any]:
        """Return the parameters that have a value."""
        return filled(super().item_of(request), ("text",))

    def type_of(self, item: dict[str, Any]) -> ItemType[Any, Any]:
        """Return the type of an item; ignore opt-outs and subscriptions."""
        if item.keys() & _NOT_SMS and not item.keys() & {"status", "text"}:
            raise IgnoredItem
        return super().type_of(item)
