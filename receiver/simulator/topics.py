"""Providers that publish to a topic: an SMS event, or a reply, as a text in an envelope.

The envelope is completed when it is signed: the topic is the project's.
"""

from __future__ import annotations

from base64 import b64encode
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from receiver.errors import ReceiverError
from receiver.simulator.forms import ISO, UK_PLUS
from receiver.simulator.objects import milliseconds
from receiver.simulator.traffic import Invention, Item, State, Style, Wire, json, other, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.providers.notifications import NotificationProvider
    from receiver.simulator.private_keys import PrivateKey
    from receiver.simulator.traffic import Request, Signer


def _amazon_report(invent: Invention, state: State) -> Item:
    status = {State.DELIVERED: "DELIVERED", State.FAILED: "UNREACHABLE"}.get(state, "SENT")
    time = int(invent.moment().timestamp() * 1000)
    return {
        "eventType": f"TEXT_{status}",
        "eventVersion": "1.0",
        "eventTimestamp": time,
        "isFinal": state is not State.PENDING,
        "originationPhoneNumber": "+447418310508",
        "destinationPhoneNumber": invent.mobile(UK_PLUS),
        "isInternationalSend": False,
        "isoCountryCode": "GB",
        "messageId": invent.uuid(),
        "messageRequestTimestamp": time - 3000,
        "messageEncoding": "GSM",
        "messageType": "TRANSACTIONAL",
        "messageStatus": status,
        "messageStatusDescription": status.lower(),
        "context": {"order": str(invent.number(6))},
        "totalMessageParts": 1,
        "totalMessagePrice": 0.01162,
        "totalCarrierFee": 0.0056,
    }


def _amazon_reply(invent: Invention) -> Item:
    return {
        "originationNumber": invent.mobile(UK_PLUS),
        "destinationNumber": "+447418310508",
        "messageKeyword": "JOIN",
        "messageBody": invent.text(),
        "inboundMessageId": invent.uuid(),
        "previousPublishedMessageId": invent.uuid(),
    }


def _amazon(item: Item, invent: Invention) -> Wire:
    envelope = {
        "Type": "Notification",
        "MessageId": invent.uuid(),
        "Message": msgspec.json.encode(item).decode(),
        "Timestamp": milliseconds(invent.now()),
    }
    return Wire(msgspec.json.encode(envelope), "text/plain; charset=UTF-8")


def _smn_report(invent: Invention, state: State) -> Item:
    failed, time = state is State.FAILED, invent.moment().strftime(ISO)
    return {
        "message_id": invent.hex(32),
        "status": 2 if failed else 1,
        "sign_id": "ce7f2f7343224f8c9597b05a9a0bcc2f",
        "status_desc": "UNDELIV" if failed else "DELIVRD",
        "fee_num": 1,
        "extend_code": None,
        "nation_code": "86",
        "mobile": invent.mobile(),
        "submit_time": time,
        "deliver_time": time,
        "event_type": "sms_fail_event" if failed else "sms_success_event",
    }


def _smn_reply(invent: Invention) -> Item:
    return {
        "sign_id": "ce7f2f7343224f8c9597b05a9a0bcc2f",
        "nation_code": "86",
        "mobile": invent.mobile(),
        "deliver_time": invent.moment().strftime(ISO),
        "event_type": "sms_reply_event",
        "reply": invent.text(),
    }


def _smn(item: Item, invent: Invention) -> Wire:
    envelope = {
        "type": "Notification",
        "message_id": invent.hex(32),
        "message": msgspec.json.encode(item).decode(),
        "timestamp": invent.now().strftime(ISO),
    }
    return json(envelope)


class Spelling(NamedTuple):
    """How a provider of topics spells what its signer adds, and the members that are signed, in their order."""

    topic: str
    version: str
    certificate_url: str
    signature: str
    signed: tuple[str, ...]
    value: str  # of the version


AMAZON: Final = Spelling(
    "TopicArn",
    "SignatureVersion",
    "SigningCertURL",
    "Signature",
    ("Message", "MessageId", "Timestamp", "TopicArn", "Type"),
    "2",
)
SMN: Final = Spelling(
    "topic_urn",
    "signature_version",
    "signing_cert_url",
    "signature",
    ("message", "message_id", "timestamp", "topic_urn", "type"),
    "v1",
)


def topic_signer(spelling: Spelling) -> Callable[[NotificationProvider, PrivateKey], Signer]:
    """Return what signs with a certificate whose own signature is of SHA-256."""

    def signer(provider: NotificationProvider, private_key: PrivateKey) -> Signer:
        key, url = private_key
        if not isinstance(key, RSAPrivateKey) or not url:
            raise ReceiverError(
                f"{provider.title} signs with RSA, and names the certificate: give an RSA key with --private-key, and "
                "--certificate-url."
            )
        if not provider.options.allowed_topics:
            raise ReceiverError(f"the project takes no topic: list one in its allowed_topics of {provider.name}.")

        def sign(request: Request, _now: float) -> Request:
            added = {
                spelling.topic: provider.options.allowed_topics[0],
                spelling.version: spelling.value,
                spelling.certificate_url: url,
            }
            envelope = msgspec.json.decode(request.body) | added
            text = "".join(f"{name}\n{envelope[name]}\n" for name in spelling.signed)
            signature = key.sign(text.encode(), PKCS1v15(), SHA256())
            envelope[spelling.signature] = b64encode(signature).decode()
            return request._replace(body=msgspec.json.encode(envelope))

        return sign

    return signer


AMAZON_SNS: Final = Style(
    _amazon_report,
    _amazon_reply,
    lambda items, invent: _amazon(items[0], invent),
    _amazon,
    itemgetter("messageId"),
    (*without("messageId", "destinationPhoneNumber"), other("eventTimestamp", "yesterday")),
)
HUAWEI_SMN: Final = Style(
    _smn_report,
    _smn_reply,
    lambda items, invent: _smn(items[0], invent),
    _smn,
    itemgetter("message_id"),
    (*without("message_id", "mobile"), other("event_type", "sms_maybe_event"), other("status", 3)),
)
