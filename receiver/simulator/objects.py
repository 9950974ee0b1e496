"""Providers that send JSON: how each writes its reports and replies.

The names of members are documented where they are read, in ``receiver/providers``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from receiver.simulator.forms import TIME, UK, UK_PLUS
from receiver.simulator.traffic import Invention, Item, State, Style, Wire, form, json, other, without

if TYPE_CHECKING:
    from datetime import datetime


def milliseconds(moment: datetime) -> str:
    """Return ``2026-03-01T02:00:05.210Z``."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _infobip_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000+0000")


_INFOBIP_STATES: Final = {
    State.DELIVERED: ((3, "DELIVERED", 5, "DELIVERED_TO_HANDSET"), (0, "OK", 0, "NO_ERROR")),
    State.FAILED: ((2, "UNDELIVERABLE", 9, "UNDELIVERABLE_NOT_DELIVERED"), (1, "HANDSET_ERRORS", 27, "EC_ABSENT")),
    State.PENDING: ((1, "PENDING", 7, "PENDING_ENROUTE"), (0, "OK", 0, "NO_ERROR")),
}


def _infobip_state(of: tuple[int, str, int, str]) -> Item:
    group_id, group, number, name = of
    return {"groupId": group_id, "groupName": group, "id": number, "name": name, "description": name.lower()}


def _infobip_report(invent: Invention, state: State) -> Item:
    status, error = _INFOBIP_STATES[state]
    time = _infobip_time(invent.moment())
    return {
        "bulkId": f"BULK-{invent.hex(12)}",
        "messageId": str(invent.number(20)),
        "to": invent.mobile(UK),
        "from": "InfoSMS",
        "sentAt": time,
        "doneAt": time,
        "smsCount": 1,
        "mccMnc": "23410",
        "callbackData": f"order-{invent.number(6)}",
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": _infobip_state(status),
        "error": _infobip_state(error) | {"permanent": state is State.FAILED},
    }


def _infobip_reply(invent: Invention) -> Item:
    text = invent.text()
    return {
        "messageId": str(invent.number(20)),
        "from": invent.mobile(UK),
        "to": "447418310508",
        "text": text,
        "cleanText": text,
        "keyword": "",
        "receivedAt": _infobip_time(invent.moment()),
        "smsCount": 1,
        "price": {"pricePerMessage": 0, "currency": "EUR"},
    }


def _sinch_report(invent: Invention, state: State) -> Item:
    code, status = {State.DELIVERED: (0, "Delivered"), State.FAILED: (412, "Aborted")}.get(state, (401, "Dispatched"))
    time = milliseconds(invent.moment())
    return {
        "type": "recipient_delivery_report_sms",
        "batch_id": f"01{invent.hex(24).upper()}",
        "client_reference": f"order-{invent.number(6)}",
        "recipient": invent.mobile(UK),
        "code": code,
        "status": status,
        "at": time,
        "operator_status_at": time,
        "applied_originator": "447418310508",
        "number_of_message_parts": 1,
    }


def _sinch_reply(invent: Invention) -> Item:
    return {
        "type": "mo_text",
        "id": f"01{invent.hex(24).upper()}",
        "from": invent.mobile(UK),
        "to": "447418310508",
        "body": invent.text(),
        "operator_id": "23410",
        "received_at": milliseconds(invent.moment()),
    }


def _telnyx_event(kind: str, invent: Invention, **payload: Any) -> Item:  # noqa: ANN401 any JSON
    time = invent.moment().isoformat(timespec="milliseconds")
    inbound = kind == "message.received"
    message = {
        "completed_at": None,
        "cost": {"amount": "0.0051", "currency": "USD"},
        "direction": "inbound" if inbound else "outbound",
        "encoding": "GSM-7",
        "errors": [],
        "id": invent.uuid(),
        "media": [],
        "messaging_profile_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "parts": 1,
        "received_at": time,
        "record_type": "message",
        "sent_at": None if inbound else time,
        "tags": [],
        "text": "Hello",
        "type": "SMS",
        "valid_until": None,
        **payload,
    }
    return {
        "event_type": kind,
        "id": invent.uuid(),
        "occurred_at": time,
        "payload": message,
        "record_type": "event",
    }


def _telnyx_party(number: str, status: str | None = None) -> Item:
    party = {"carrier": "", "line_type": "", "phone_number": number}
    return party | ({"status": status} if status else {})


def _telnyx_report(invent: Invention, state: State) -> Item:
    failed = state is State.FAILED
    status = {State.DELIVERED: "delivered", State.FAILED: "delivery_failed"}.get(state, "sent")
    error = {"code": "40008", "title": "Undeliverable", "detail": "No answer from the other side."}
    return _telnyx_event(
        "message.sent" if state is State.PENDING else "message.finalized",
        invent,
        **{"from": _telnyx_party("+447418310508")},
        to=[_telnyx_party(invent.mobile(UK_PLUS), status)],
        errors=[error] if failed else [],
        completed_at=None if state is State.PENDING else invent.moment().isoformat(timespec="milliseconds"),
    )


def _telnyx_reply(invent: Invention) -> Item:
    return _telnyx_event(
        "message.received",
        invent,
        **{"from": _telnyx_party(invent.mobile(UK_PLUS))},
        to=[_telnyx_party("+447418310508", "webhook_delivered")],
        text=invent.text(),
    )


def _telnyx_json(item: Item, _invent: Invention) -> Wire:
    return json({"data": item, "meta": {"attempt": 1}})


def _vonage_report(invent: Invention, state: State) -> Item:
    """Return a report of one of the two APIs; a callback of the SMS API has ``messageId``."""
    if invent.random.getrandbits(1):
        status = {State.DELIVERED: "delivered", State.FAILED: "undeliverable"}.get(state, "submitted")
        item = {
            "message_uuid": invent.uuid(),
            "to": invent.mobile(UK),
            "from": "AcmeInc",
            "timestamp": milliseconds(invent.moment()),
            "status": status,
            "client_ref": f"order-{invent.number(6)}",
            "channel": "sms",
            "sms": {"count_total": "1"},
        }
        return item | ({"error": {"title": "1170", "detail": "Invalid number"}} if state is State.FAILED else {})
    return {
        "msisdn": invent.mobile(UK),
        "to": "AcmeInc",
        "network-code": "23410",
        "messageId": f"0A{invent.hex(14).upper()}",
        "price": "0.03330000",
        "status": {State.DELIVERED: "delivered", State.FAILED: "failed"}.get(state, "accepted"),
        "scts": invent.moment().strftime("%y%m%d%H%M"),
        "err-code": "6" if state is State.FAILED else "0",
        "api-key": "abcd1234",
        "client-ref": f"order-{invent.number(6)}",
        "message-timestamp": invent.now().strftime(TIME),
    }


def _vonage_reply(invent: Invention) -> Item:
    if invent.random.getrandbits(1):
        return {
            "message_uuid": invent.uuid(),
            "from": invent.mobile(UK),
            "to": "447418310508",
            "timestamp": milliseconds(invent.moment()),
            "channel": "sms",
            "message_type": "text",
            "text": invent.text(),
        }
    return {
        "msisdn": invent.mobile(UK),
        "to": "447418310508",
        "messageId": f"0B{invent.hex(14).upper()}",
        "text": invent.text(),
        "type": "text",
        "keyword": "",
        "api-key": "abcd1234",
        "message-timestamp": invent.now().strftime(TIME),
    }


def _vonage(item: Item, _invent: Invention) -> Wire:
    """Write JSON for the Messages API, and a form for the SMS API."""
    return json(item) if "channel" in item else form(item)


INFOBIP: Final = Style(
    _infobip_report,
    _infobip_reply,
    lambda items, _invent: json({"results": items}),
    lambda item, _invent: json({"results": [item], "messageCount": 1, "pendingMessageCount": 0}),
    itemgetter("messageId"),
    (*without("messageId"), other("status", {"groupName": "MAYBE"}), other("doneAt", "yesterday")),
    batches=True,
)
SINCH: Final = Style(
    _sinch_report,
    _sinch_reply,
    lambda items, _invent: json(items[0]),
    json,
    itemgetter("batch_id"),
    (*without("batch_id", "code"), other("status", "Maybe"), other("at", "yesterday")),
)
TELNYX: Final = Style(
    _telnyx_report,
    _telnyx_reply,
    lambda items, invent: _telnyx_json(items[0], invent),
    _telnyx_json,
    lambda item: str(item["payload"]["id"]),
    (*without("payload", "occurred_at"), other("payload", {})),
)
VONAGE: Final = Style(
    _vonage_report,
    _vonage_reply,
    lambda items, invent: _vonage(items[0], invent),
    _vonage,
    lambda item: str(item.get("message_uuid") or item["messageId"]),
    (*without("status"), other("status", "maybe")),
)
