"""Twilio: message status callbacks and incoming messages, one a request, as a form or a query.

https://www.twilio.com/docs/messaging/guides/track-outbound-message-status (status),
https://www.twilio.com/docs/messaging/guides/webhook-request (incoming message),
https://www.twilio.com/docs/usage/security#validating-requests (signature).

The body of a response to an incoming message can reach the person as an SMS, so the only body is ``<Response/>``. By
default Twilio does not retry a refused callback, so invalid items are acknowledged once they are in the quarantine.
Append ``#rc=3&rp=5xx,ct,rt`` to the callback URL to enable retries.
"""

from __future__ import annotations

import dataclasses
import hmac
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from marshmallow import INCLUDE, Schema, fields, validate

from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import (
    DELIVERED,
    FAILED,
    PENDING,
    Answer,
    CallbackRequest,
    Outcome,
    ProviderOptions,
    option,
)
from receiver.providers.fields import any_json, nation_code
from receiver.providers.forms import FormProvider, signed_parameters
from receiver.providers.item_types import ItemType, kept
from receiver.providers.signatures import header, require_match
from receiver.setting_fields import secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

_OUTCOMES: Final[dict[str, Outcome]] = {
    "accepted": PENDING,
    "scheduled": PENDING,
    "queued": PENDING,
    "sending": PENDING,
    "sent": PENDING,
    "delivered": DELIVERED,
    "read": DELIVERED,
    "undelivered": FAILED,
    "failed": FAILED,
    "canceled": FAILED,
}
#: https://www.twilio.com/docs/api/errors, those of messages on their way.
_ERRORS: Final = (
    "21610 30001 30002 30003 30004 30005 30006 30007 30008 30009 30010 30011 30017 30018 30019 30022 30023 30024 30027"
    " 30032 30033 30034 30035 30036 30037 30038 30039 30040 30041 30042 30043 30044 30410 30450 30453 30454 30485 30500"
    " 30610 30615 30620 30630"
)
_PORTS: Final = {"https": 443, "http": 80}


class MessageStatus(Schema):
    """A status callback. Twilio adds parameters without notice: unknown ones are kept."""

    class Meta:
        unknown = INCLUDE

    MessageSid = fields.String(required=True, validate=validate.Length(1, 128))
    MessageStatus = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES]))
    To = fields.String(required=True, validate=validate.Length(1, 64))
    From = fields.String()
    ErrorCode = fields.String()
    ErrorMessage = fields.String()
    AccountSid = fields.String()
    MessagingServiceSid = fields.String()
    RawDlrDoneDate = fields.String()
    SmsSid = fields.String()
    SmsStatus = fields.String()
    ApiVersion = fields.String()


class MessageStatusItem(Protocol):
    """A status callback as loaded from its schema."""

    MessageSid: str
    MessageStatus: str
    To: str
    From: str | msgspec.UnsetType
    ErrorCode: str | msgspec.UnsetType
    ErrorMessage: str | msgspec.UnsetType
    AccountSid: str | msgspec.UnsetType
    MessagingServiceSid: str | msgspec.UnsetType
    RawDlrDoneDate: str | msgspec.UnsetType
    SmsSid: str | msgspec.UnsetType
    SmsStatus: str | msgspec.UnsetType
    ApiVersion: str | msgspec.UnsetType


class IncomingMessage(Schema):
    """A message that a person sent. Unknown parameters are kept."""

    class Meta:
        unknown = INCLUDE

    MessageSid = fields.String(required=True, validate=validate.Length(1, 128))
    From = fields.String(required=True, validate=validate.Length(1, 64))
    To = fields.String(required=True)
    Body = fields.String(required=True)
    AccountSid = any_json()
    MessagingServiceSid = any_json()
    SmsMessageSid = any_json()
    SmsSid = any_json()
    SmsStatus = any_json()
    NumSegments = any_json()
    NumMedia = any_json()
    ApiVersion = any_json()
    FromCity = any_json()
    FromState = any_json()
    FromZip = any_json()
    FromCountry = any_json()
    ToCity = any_json()
    ToState = any_json()
    ToZip = any_json()
    ToCountry = any_json()
    OptOutType = any_json()


#: Parameters of an incoming message without a name of ours: ids, and where the two numbers are.
_WITHOUT_NAME: Final = tuple(name for name in IncomingMessage().fields if name not in ("From", "To", "Body"))


class IncomingMessageItem(Protocol):
    """An incoming message as loaded from its schema."""

    MessageSid: str
    From: str
    To: str
    Body: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwilioOptions(ProviderOptions):
    """Options for Twilio."""

    auth_tokens: tuple[str, ...] = option(secrets(), "auth tokens of the account; two during a rotation", ())


def _status(_provider: Twilio, item: MessageStatusItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES[item.MessageStatus]
    data = ReportData(
        event_type=event_type,
        message_id=item.MessageSid,
        status=status,
        status_desc=item.ErrorCode or item.MessageStatus,
        description=item.ErrorMessage or msgspec.UNSET,
        nation_code=nation_code(item.To) or msgspec.UNSET,
        mobile=item.To,
        sender=item.From,
    )
    named = {name: getattr(item, name) for name in ("AccountSid", "MessagingServiceSid", "RawDlrDoneDate")}
    data.extra = kept(named, extra)
    # RawDlrDoneDate has no zone, so the time is unknown.
    return Event(event_type, None, encode(data), code=data.status_desc)


def _incoming(provider: Twilio, item: IncomingMessageItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.Body,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.To,
        nation_code=nation_code(item.From) or msgspec.UNSET,
        mobile=item.From,
        extra=kept({name: getattr(item, name) for name in _WITHOUT_NAME}, extra),
    )
    return Event(EventType.REPLY, None, encode(data))


class Twilio(FormProvider):
    """The provider ``twilio``."""

    name = "twilio"
    title = "Twilio"
    ack = Answer(200, b"<Response/>", "text/xml")  # sends no message
    options_type = TwilioOptions
    options: TwilioOptions
    signs_url = True
    has_pending = True
    codes = frozenset({*_OUTCOMES, *_ERRORS.split()})
    drops_on_4xx = True
    url_advice = "Append #rc=3&rp=5xx,ct,rt to have failed callbacks sent again."
    item_types = (
        ItemType(MessageStatus, ("MessageStatus",), _status),
        ItemType(IncomingMessage, ("Body",), _incoming),
    )
    unlike = "neither a status (it would have MessageStatus) nor an incoming message (Body)"

    @property
    def signed(self) -> bool:
        """Whether an auth token is configured."""
        return bool(self.options.auth_tokens)

    def verify(self, request: CallbackRequest, _now: float, _certificate: bytes | None = None) -> None:
        """Check ``X-Twilio-Signature``: HMAC-SHA1 of the URL and the parameters of the form."""
        given = header(request, "X-Twilio-Signature")
        require_match(given, self._signatures(request))

    def _signatures(self, request: CallbackRequest) -> Iterator[str]:
        """Yield the valid signatures: of each spelling of the URL, with each token."""
        parameters = _signed_parameters(request)
        for url in _spellings(f"{self.public_url}{request.target}"):
            signed = f"{url}{parameters}".encode(errors="surrogateescape")
            for token in self.options.auth_tokens:
                yield b64encode(hmac.digest(token.encode(), signed, "sha1")).decode()

    def refuse(self, status: int, _message: str) -> Answer:
        """Return an empty body: Twilio could send a text to the person."""
        return Answer(status)


def _signed_parameters(request: CallbackRequest) -> str:
    """Return the names and values of a form's parameters, sorted by name, without duplicates."""
    if not request.body:
        return ""
    return "".join([name + value for name, value in sorted(set(signed_parameters(request)))])


@lru_cache(maxsize=256)
def _spellings(url: str) -> tuple[str, str]:
    """Return the URL without and with its port: Twilio signs either."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")
    if parts.port is None:
        return url, parts._replace(netloc=f"{parts.netloc}:{_PORTS[parts.scheme]}").geturl()
    bare = "".join(host[:2]) + host[2].rpartition(":")[0]
    return parts._replace(netloc=bare).geturl(), url
