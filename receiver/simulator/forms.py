"""Providers that send parameters: how each writes its reports and replies.

The names of parameters are documented where they are read, in ``receiver/providers``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Final
from urllib.parse import urlencode

from receiver.simulator.traffic import (
    CHINA,
    Invention,
    Item,
    State,
    Style,
    Wire,
    form,
    one_form,
    other,
    without,
)

#: Beginnings of mobile numbers, behind which eight digits follow.
UK: Final = ("4474", "4475", "4477", "4478")
UK_PLUS: Final = tuple(f"+{prefix}" for prefix in UK)
_KENYA: Final = ("+2547",)
CHINA_PLUS: Final = tuple(f"+86{prefix}" for prefix in CHINA)
TIME: Final = "%Y-%m-%d %H:%M:%S"
ISO: Final = "%Y-%m-%dT%H:%M:%SZ"


def _query(items: list[Item], _invent: Invention) -> Wire:
    return Wire(method="GET", query=urlencode(items[0]))


def _twilio_report(invent: Invention, state: State) -> Item:
    sid, word = f"SM{invent.hex(32)}", {State.DELIVERED: "delivered", State.FAILED: "undelivered"}.get(state, "sent")
    item = {
        "SmsSid": sid,
        "SmsStatus": word,
        "MessageStatus": word,
        "To": invent.mobile(UK_PLUS),
        "MessageSid": sid,
        "AccountSid": "AC0123456789abcdef0123456789abcdef",
        "From": "+14155557051",
        "ApiVersion": "2010-04-01",
    }
    return item | ({"ErrorCode": invent.random.choice(("30003", "30005", "30008"))} if state is State.FAILED else {})


def _twilio_reply(invent: Invention) -> Item:
    sid = f"SM{invent.hex(32)}"
    return {
        "ToCountry": "US",
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "FromCity": "",
        "SmsSid": sid,
        "SmsStatus": "received",
        "Body": invent.text(),
        "FromCountry": "GB",
        "To": "+12028831111",
        "NumSegments": "1",
        "MessageSid": sid,
        "AccountSid": "AC0123456789abcdef0123456789abcdef",
        "From": invent.mobile(UK_PLUS),
        "ApiVersion": "2010-04-01",
    }


def _plivo_report(invent: Invention, state: State) -> Item:
    uuid, time = invent.uuid(), invent.moment().strftime(f"{TIME}.%f")
    return {
        "Status": {State.DELIVERED: "delivered", State.FAILED: "undelivered"}.get(state, "sent"),
        "From": "13342031111",
        "ParentMessageUUID": uuid,
        "TotalRate": "0.0025",
        "MCC": "234",
        "PartInfo": "1 of 1",
        "ErrorCode": invent.random.choice(("30", "40", "50")) if state is State.FAILED else "",
        "To": invent.mobile(UK),
        "Units": "1",
        "TotalAmount": "0.0025",
        "MNC": "10",
        "MessageUUID": uuid,
        "Type": "sms",
        "Sequence": "1" if state is State.PENDING else "2",
        "SentTime": time,
        "DeliveryReportTime": "" if state is State.PENDING else time,
    }


def _plivo_reply(invent: Invention) -> Item:
    return {
        "To": "13342031111",
        "From": invent.mobile(UK),
        "TotalRate": "0",
        "Units": "1",
        "Text": invent.text(),
        "TotalAmount": "0",
        "Type": "sms",
        "MessageUUID": invent.uuid(),
    }


def _messagebird_report(invent: Invention, state: State) -> Item:
    status, reason, code = {
        State.DELIVERED: ("delivered", "successfully delivered", ""),
        State.FAILED: ("delivery_failed", "unknown subscriber", "1"),
        State.PENDING: ("sent", "pending dlr", ""),
    }[state]
    return {
        "datacoding": "plain",
        "id": invent.hex(32),
        "mccmnc": "23410",
        "messageLength": "4",
        "messagePartCount": "1",
        "ported": "0",
        "price[amount]": "0.075",
        "price[currency]": "EUR",
        "recipient": invent.mobile(UK),
        "reference": f"order-{invent.number(6)}",
        "status": status,
        "statusReason": reason,
        "statusDatetime": invent.moment().isoformat(timespec="seconds"),
        "statusErrorCode": code,
    }


def _messagebird_reply(invent: Invention) -> Item:
    return {
        "id": invent.hex(32),
        "recipient": "447418310508",
        "originator": invent.mobile(UK),
        "body": invent.text(),
        "createdDatetime": invent.moment().isoformat(timespec="seconds"),
    }


def _africastalking_report(invent: Invention, state: State) -> Item:
    item = {
        "id": f"ATXid_{invent.hex(32)}",
        "status": {State.DELIVERED: "Success", State.FAILED: "Failed"}.get(state, "Submitted"),
        "phoneNumber": invent.mobile(_KENYA),
        "networkCode": "63902",
        "retryCount": "0",
    }
    return item | ({"failureReason": "DeliveryFailure"} if state is State.FAILED else {})


def _africastalking_reply(invent: Invention) -> Item:
    return {
        "linkId": str(invent.number(20)),
        "text": invent.text(),
        "to": "21512",
        "id": invent.uuid(),
        "date": invent.moment().strftime(ISO),
        "from": invent.mobile(_KENYA),
        "networkCode": "63902",
    }


def _kannel_report(invent: Invention, state: State) -> Item:
    status, answer = {
        State.DELIVERED: ("1", "stat:DELIVRD err:000"),
        State.FAILED: ("2", "stat:UNDELIV err:00B"),
        State.PENDING: ("4", ""),
    }[state]
    return {
        "id": f"order-{invent.hex(16)}",
        "status": status,
        "from": "1069000",
        "to": invent.mobile(CHINA_PLUS),
        "ts": str(int(invent.moment().timestamp())),
        "smsc": "smsc1",
        "answer": answer,
    }


def _kannel_reply(invent: Invention) -> Item:
    return {
        "mo": "1",
        "from": invent.mobile(CHINA_PLUS),
        "to": "1069000",
        "text": invent.text(),
        "ts": str(int(invent.moment().timestamp())),
        "id": invent.uuid(),
        "smsc": "smsc1",
        "charset": "UTF-8",
    }


TWILIO: Final = Style(
    _twilio_report,
    _twilio_reply,
    one_form,
    form,
    itemgetter("MessageSid"),
    (*without("MessageSid", "To"), other("MessageStatus", "maybe")),
)
PLIVO: Final = Style(
    _plivo_report,
    _plivo_reply,
    one_form,
    form,
    itemgetter("MessageUUID"),
    (*without("MessageUUID", "To"), other("Status", "maybe")),
)
MESSAGEBIRD: Final = Style(
    _messagebird_report,
    _messagebird_reply,
    _query,
    form,
    itemgetter("id"),
    (*without("id", "recipient"), other("status", "maybe"), other("statusDatetime", "yesterday")),
)
AFRICASTALKING: Final = Style(
    _africastalking_report,
    _africastalking_reply,
    one_form,
    form,
    itemgetter("id"),
    (*without("id"), other("status", "Maybe")),
)
KANNEL: Final = Style(
    _kannel_report,
    _kannel_reply,
    _query,
    lambda item, invent: _query([item], invent),
    itemgetter("id"),
    (*without("id"), other("status", "128"), other("ts", "yesterday")),
)
