"""Huawei Cloud Message & SMS (MSGSMS): status reports (single as a form, or a JSON list), and uplink messages.

https://support.huaweicloud.com/intl/en-us/api-msgsms/sms_05_0003.html (report),
https://support.huaweicloud.com/intl/en-us/api-msgsms/sms_05_0063.html (list of reports),
https://support.huaweicloud.com/intl/en-us/api-msgsms/sms_05_0004.html (uplink message),
https://support.huaweicloud.com/intl/en-us/api-msgsms/sms_05_0064.html (signature),
https://support.huaweicloud.com/intl/en-us/api-msgsms/sms_05_0051.html and
https://support.huaweicloud.com/api-msgsms/sms_05_0051.html (codes, in mainland China more).

The platform ignores the response and never retries: a refused callback is lost. A long message has one report for each
part, all with the message's id. A report has the recipient only together with ``extend``. Reports that the platform
itself creates have no time.

The signature covers headers, including ``Connection`` and ``Host``: proxies must not change them. An SDK that signs
``UNSIGNED-PAYLOAD`` excludes the body. That is safe, because it also requires the secret key.
"""

# ruff: noqa: N815 the names of fields are Huawei's
from __future__ import annotations

import dataclasses
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from marshmallow import fields, validate

from receiver.errors import BadSignatureError
from receiver.events import Event, EventType, ReplyData, ReportData, encode
from receiver.huawei_signing import MAX_SKEW, SignedRequest, parse_authorization
from receiver.huawei_signing import verify as verify_signature
from receiver.providers.base import (
    DELIVERED,
    FAILED,
    INCONCLUSIVE,
    PENDING,
    SMPP_STATES,
    Outcome,
    ProviderOptions,
    inconclusive_option,
    option,
    tolerance_option,
)
from receiver.providers.fields import Label, UtcTime, iso_form, nation_code
from receiver.providers.forms import FormProvider
from receiver.providers.item_types import ItemProvider, ItemSchema, ItemType, kept
from receiver.providers.signatures import header, secret_of
from receiver.setting_fields import named_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.providers.base import CallbackRequest, ParsedCallback

_DELIVERED: Final = "DELIVRD"
#: Temporary; another report follows, at the latest EXPIRED after 72 hours.
_ACCEPTED: Final = "ACCEPTD"
#: An unknown error, or the number does not exist. All others, several hundred, are codes of failures.
_INCONCLUSIVE: Final = "UNKNOWN"
#: Those of the platform, and the most readable of its suppliers'. Carriers add several hundred.
_FAILURES: Final = frozenset(
    {
        *(f"E2000{number}" for number in range(18, 39)),
        *("E200051", "E000503", "E000628", "E000629"),
        *("LIMIT", "MILIMIT", "CTLIMIT", "BEYONDN", "KEYWORD", "BLACK", "TDBLACK", "TSBLACK", "MBBLACK"),
    }
)
_CONTENT_HASH: Final = "x-sdk-content-sha256"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
#: Digits of the number of parts, at most.
_MAX_DIGITS: Final = 4


def _time() -> UtcTime:
    """Return a field for a time that may be missing or, in a form, empty."""
    return UtcTime(iso_form, "2026-03-01T02:00:03Z", allow_none=True, pre_load=lambda value: value or None)


class Report(ItemSchema):
    """The status of a message, or of one of its parts."""

    smsMsgId = fields.String(required=True, validate=validate.Length(1, 128))
    status = fields.String(required=True, validate=validate.Length(1, 64))
    statusDesc = fields.String(allow_none=True)
    total = Label(allow_none=True)
    sequence = Label(allow_none=True)
    source = Label(allow_none=True)
    updateTime = _time()
    extend = fields.String(allow_none=True)
    to = fields.String(allow_none=True, validate=validate.Length(max=64))


class ReportItem(Protocol):
    """A report as loaded from its schema."""

    smsMsgId: str
    status: str
    statusDesc: str | msgspec.UnsetType | None
    total: str | msgspec.UnsetType | None
    sequence: str | msgspec.UnsetType | None
    source: str | msgspec.UnsetType | None
    updateTime: str | msgspec.UnsetType | None
    extend: str | msgspec.UnsetType | None
    to: str | msgspec.UnsetType | None


class UplinkMessage(ItemSchema):
    """A message that a person sent. Its id is its own, not that of an answered message."""

    smsMsgId = fields.String(required=True, validate=validate.Length(1, 128))
    sender = fields.String(required=True, data_key="from", validate=validate.Length(1, 64))
    to = fields.String(allow_none=True)
    body = fields.String(required=True)
    createTime = _time()


class UplinkMessageItem(Protocol):
    """An uplink message as loaded from its schema."""

    smsMsgId: str
    sender: str
    to: str | msgspec.UnsetType | None
    body: str
    createTime: str | msgspec.UnsetType | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuaweiMsgsmsOptions(ProviderOptions):
    """Options for MSGSMS."""

    access_keys: Mapping[str, str] | None = option(
        named_secrets(), "secret keys (SK) of the push by their access keys (AK); two during a rotation"
    )
    clock_tolerance: float = tolerance_option(MAX_SKEW)
    inconclusive: str = inconclusive_option("fail")


def _report(provider: HuaweiMsgsms, item: ReportItem, extra: dict[str, Any] | None) -> Event:
    event_type, status = _outcome(provider, item.status)
    time = item.updateTime or None
    to = item.to or ""
    data = ReportData(
        event_type=event_type,
        message_id=item.smsMsgId,
        status=status,
        status_desc=item.status,
        description=item.statusDesc or msgspec.UNSET,
        nation_code=nation_code(to) or msgspec.UNSET,
        mobile=to or msgspec.UNSET,
        deliver_time=time if time and event_type is not EventType.SENT else msgspec.UNSET,
        session_context=item.extend or msgspec.UNSET,
        fee_num=_count(item.total) or msgspec.UNSET,
        extra=kept({"sequence": item.sequence, "source": item.source}, extra),
    )
    return Event(event_type, time, encode(data), code=data.status_desc)


def _outcome(provider: HuaweiMsgsms, state: str) -> Outcome:
    if state == _ACCEPTED:
        return PENDING
    if state == _INCONCLUSIVE:
        return INCONCLUSIVE[provider.options.inconclusive]
    return DELIVERED if state == _DELIVERED else FAILED


def _count(text: str | msgspec.UnsetType | None) -> int | None:
    """Return a valid number of parts, or None."""
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _uplink(provider: HuaweiMsgsms, item: UplinkMessageItem, extra: dict[str, Any] | None) -> Event:
    time = item.createTime or None
    data = ReplyData(
        event_type=EventType.REPLY,
        reply=item.body,
        sign_id=provider.sign_id or msgspec.UNSET,
        extend_code=item.to or msgspec.UNSET,
        nation_code=nation_code(item.sender) or msgspec.UNSET,
        mobile=item.sender,
        deliver_time=time or msgspec.UNSET,
        extra=kept({"smsMsgId": item.smsMsgId}, extra),
    )
    return Event(EventType.REPLY, time, encode(data))


class HuaweiMsgsms(FormProvider):
    """The provider ``huawei-msgsms``."""

    name = "huawei-msgsms"
    title = "Huawei Cloud MSGSMS"
    codes = SMPP_STATES | _FAILURES
    methods = frozenset({"POST"})
    max_signed_body = None  # a push may be a list, and verifying only hashes it
    options_type = HuaweiMsgsmsOptions
    options: HuaweiMsgsmsOptions
    has_pending = True
    drops_on_4xx = True
    items_in = "statusReportList"
    item_types = (
        ItemType(Report, ("status",), _report),
        ItemType(UplinkMessage, ("from", "body"), _uplink),
    )
    unlike = "neither a report (it would have status) nor an uplink message (from and body)"

    @property
    def signed(self) -> bool:
        """Whether a secret key is configured."""
        return bool(self.options.access_keys)

    def verify(self, request: CallbackRequest, now: float, _certificate: bytes | None = None) -> None:
        """Check the AK/SK signature: HMAC-SHA256 of method, path, query, headers and body."""
        authorization = parse_authorization(header(request, "Authorization"))
        if authorization is None:
            raise BadSignatureError("the request is not signed: Authorization has an unknown form")
        secret_key = secret_of(authorization.access_key, self.options.access_keys or {})
        path, _, query = request.target.partition("?")
        hash_ = _body_hash(request, authorization.signed_headers)
        signed = SignedRequest(request.method, path, query, tuple(request.headers.items()), hash_)
        if not verify_signature(authorization, signed, secret_key, now, self.options.clock_tolerance):
            raise BadSignatureError(
                "the signature is wrong or too old; check the secret key, and that proxies change no header"
            )

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse a form or a list in the expected format; else return None. Raises TooManyItemsError."""
        parser = ItemProvider if _is_json(request) else FormProvider
        return parser.parse_fast(self, request)

    def parse_tolerant(self, request: CallbackRequest) -> ParsedCallback:
        """Parse a form, or a list item by item, with the reasons for rejections. Raises TooManyItemsError."""
        parser = ItemProvider if _is_json(request) else FormProvider
        return parser.parse_tolerant(self, request)


def _is_json(request: CallbackRequest) -> bool:
    """Return whether the body is JSON: a list of reports, or a single one from the quarantine."""
    return request.body.lstrip()[:1] in (b"{", b"[")


def _body_hash(request: CallbackRequest, signed_headers: str) -> str:
    """Return the body's hash as signed. A signed header can declare that the signature excludes the body."""
    unsigned = request.headers.get(_CONTENT_HASH) == _UNSIGNED and _CONTENT_HASH in signed_headers.split(";")
    return _UNSIGNED if unsigned and request.body else sha256(request.body).hexdigest()
