"""Huawei Cloud SMN: the SMS events of a topic, pushed to an HTTPS subscription.

https://support.huaweicloud.com/intl/en-us/usermanual-smn/smn_ug_a9002.html (envelope),
https://support.huaweicloud.com/intl/en-us/usermanual-smn/smn_ug_a9003.html (signature),
https://support.huaweicloud.com/intl/en-us/smn_faq/smn_faq_0014.html (retries).

The message is an event in our own vocabulary, which is SMN's. SMN retries only after 5xx. The signature uses the same
digest as the certificate's own signature.

Certificates and confirmations are fetched from hosts of SMN and the console, in any region. Matching a suffix would be
unsafe: hosts of buckets, which anyone can create, also end in ``.myhuaweicloud.com``.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from marshmallow import ValidationError, fields, validate

from receiver.errors import BadSignatureError
from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.providers.base import DELIVERED, FAILED, SMPP_STATES, Outcome, option
from receiver.providers.fields import UtcTime, iso_form
from receiver.providers.item_types import ItemSchema, ItemType, kept
from receiver.providers.notifications import REGION, EnvelopeSchema, NotificationOptions, NotificationProvider
from receiver.setting_fields import LIST, TEXT

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm
    from cryptography.x509 import Certificate

    from receiver.providers.notifications import Envelope

_OUTCOMES: Final[dict[str, Outcome]] = {EventType.SUCCESS.value: DELIVERED, EventType.FAIL.value: FAILED}
_TIME: Final = (iso_form, "2026-03-01T02:00:03Z")
_VERSION: Final = "v1"
_HOSTS: Final = (
    "smn.*.myhuaweicloud.com",
    "smn.*.huaweicloud.com",
    "console.*.huaweicloud.com",
    "console.huaweicloud.com",
    "console-intl.huaweicloud.com",
)
_HOST: Final = validate.Regexp(
    r"[a-z0-9-]+(?:\.(?:\*|[a-z0-9-]+))*\.[a-z0-9-]+\.[a-z]+\Z",
    error="must be a host name; * stands for a region: smn.*.myhuaweicloud.com.",
)


class HuaweiEnvelope(EnvelopeSchema):
    """The envelope of SMN."""

    type = fields.String(required=True)
    topic = fields.String(data_key="topic_urn", required=True)
    message_id = fields.String(required=True)
    message = fields.String(required=True)
    subject = fields.String(allow_none=True)
    timestamp = fields.String(required=True)
    subscribe_url = fields.String(allow_none=True)
    signature = fields.String(required=True)
    signature_version = fields.String(required=True)
    certificate_url = fields.String(data_key="signing_cert_url", required=True)


class Report(ItemSchema):
    """The status of a message."""

    event_type = fields.String(required=True, validate=validate.OneOf([*_OUTCOMES]))
    message_id = fields.String(required=True, validate=validate.Length(1, 128))
    status = fields.Integer(required=True, strict=True)
    status_desc = fields.String(required=True)
    mobile = fields.String(required=True, validate=validate.Length(1, 64))
    nation_code = fields.String(allow_none=True)
    deliver_time = UtcTime(*_TIME, allow_none=True)
    submit_time = UtcTime(*_TIME, allow_none=True)
    fee_num = fields.Integer(strict=True, allow_none=True, validate=validate.Range(0))
    sign_id = fields.String(allow_none=True)
    extend_code = fields.String(allow_none=True)


class ReportItem(Protocol):
    """A report as loaded from its schema."""

    event_type: str
    message_id: str
    status: int
    status_desc: str
    mobile: str
    nation_code: str | msgspec.UnsetType | None
    deliver_time: str | msgspec.UnsetType | None
    submit_time: str | msgspec.UnsetType | None
    fee_num: int | msgspec.UnsetType | None
    sign_id: str | msgspec.UnsetType | None
    extend_code: str | msgspec.UnsetType | None


class Reply(ItemSchema):
    """A message that a person sent. It has no id: time, number and text identify it."""

    event_type = fields.String(required=True, validate=validate.OneOf([EventType.REPLY.value]))
    reply = fields.String(required=True)
    mobile = fields.String(required=True, validate=validate.Length(1, 64))
    nation_code = fields.String(allow_none=True)
    deliver_time = UtcTime(*_TIME, required=True)
    sign_id = fields.String(allow_none=True)
    extend_code = fields.String(allow_none=True)


class ReplyItem(Protocol):
    """A reply as loaded from its schema."""

    reply: str
    mobile: str
    nation_code: str | msgspec.UnsetType | None
    deliver_time: str
    sign_id: str | msgspec.UnsetType | None
    extend_code: str | msgspec.UnsetType | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuaweiSmnOptions(NotificationOptions):
    """Options for SMN."""

    allowed_hosts: tuple[str, ...] = option(
        fields.List(fields.String(validate=_HOST, error_messages=TEXT), error_messages=LIST),
        "hosts of certificates and confirmations; * stands for a region",
        _HOSTS,
    )


def _report(_provider: HuaweiSmn, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _OUTCOMES[item.event_type]
    if item.status != status:
        raise ValidationError(f"Must be {status} for {event_type}.", "status")
    data = ReportData(
        event_type=event_type,
        message_id=item.message_id,
        status=status,
        status_desc=item.status_desc,
        nation_code=item.nation_code or msgspec.UNSET,
        mobile=item.mobile,
        deliver_time=item.deliver_time or msgspec.UNSET,
        submit_time=item.submit_time or msgspec.UNSET,
        fee_num=item.fee_num or msgspec.UNSET,
        sign_id=item.sign_id or msgspec.UNSET,
        extend_code=item.extend_code or msgspec.UNSET,
        extra=kept({}, extra),
    )
    return Event(event_type, item.deliver_time or None, encode(data), code=data.status_desc)


def _reply(provider: HuaweiSmn, item: ReplyItem, extra: dict[str, Any] | None) -> Event:
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.reply,
        sign_id=item.sign_id or provider.sign_id or msgspec.UNSET,
        extend_code=item.extend_code or msgspec.UNSET,
        nation_code=item.nation_code or msgspec.UNSET,
        mobile=item.mobile,
        deliver_time=item.deliver_time,
        extra=kept({}, extra),
    )
    return Event(EventType.REPLY, item.deliver_time, encode(data))


class HuaweiSmn(NotificationProvider):
    """The provider ``huawei-smn``."""

    name = "huawei-smn"
    title = "Huawei Cloud SMN"
    codes = SMPP_STATES
    options_type = HuaweiSmnOptions
    options: HuaweiSmnOptions
    envelope_schema = HuaweiEnvelope
    item_types = (
        ItemType(Report, ("message_id", "status", "status_desc"), _report),
        ItemType(Reply, ("reply",), _reply),
    )
    unlike = "neither a report (it would have message_id and status) nor a reply (reply)"

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """The configured hosts."""
        return tuple(re.escape(host).replace(r"\*", REGION) for host in self.options.allowed_hosts)

    def digest(self, envelope: Envelope, certificate: Certificate) -> HashAlgorithm | None:
        """Return the digest of the certificate's signature."""
        if envelope.signature_version.lower() != _VERSION:
            raise BadSignatureError(f"the version of the signature is not {_VERSION}")
        try:
            return certificate.signature_hash_algorithm
        except UnsupportedAlgorithm:
            return None
