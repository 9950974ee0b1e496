"""Providers that publish to topics: one message a request, as a text in a signed envelope.

The envelope is a notification, or the start or end of a subscription. It names the certificate of its signature.
Anyone can create a topic, and the provider signs for all topics, so a project must list the topics that it accepts. The
certificate is trusted because it comes from the provider's own host over https. Its issuer is not checked.

A retry may have another envelope, so an event's id depends on the message alone.
"""

from __future__ import annotations

import dataclasses
import re
from base64 import b64decode
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512
from marshmallow import EXCLUDE, Schema, ValidationError, fields
from msgspec import UNSET, UnsetType

from receiver.errors import BadSignatureError, UnverifiableError
from receiver.providers.base import FAST, SLOW, ParsedCallback, ProviderOptions, Rejection, option, tolerance_option
from receiver.providers.fields import UtcTime, iso_form
from receiver.providers.item_types import UNFIT, Decoder, IgnoredItem, ItemProvider, ItemType, reasons_of
from receiver.providers.json_items import decode_item
from receiver.providers.schema import build, struct_of
from receiver.providers.signatures import require_recent
from receiver.setting_fields import LIST, TEXT

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from receiver.events import Event
    from receiver.providers.base import CallbackRequest

NOTIFICATION: Final = "Notification"
#: The request to confirm a subscription. The message about its end is only counted: its URL would subscribe again.
CONFIRMATION: Final = "SubscriptionConfirmation"
#: A cloud region, ``cn-north-4``. Hosts of other forms can belong to anyone, for example those of buckets.
REGION: Final = r"[a-z]{2}(?:-[a-z]+)+-[0-9]+"
_CERTIFICATE_PATH: Final = r"[A-Za-z0-9_/.-]+\.pem"
_ANY_PATH: Final = "[!-~]*"
PUBLISHED: Final = UtcTime(iso_form, "2026-03-01T02:00:04Z")
#: The members that a signature covers, in order. Missing ones are skipped.
_OF_NOTIFICATION: Final = ("message", "message_id", "subject", "timestamp", "topic", "type")
_OF_SUBSCRIPTION: Final = ("message", "message_id", "subscribe_url", "timestamp", "token", "topic", "type")
_ABSENT: Final = (None, UNSET)
_DIGESTS: Final = (SHA1, SHA256, SHA384, SHA512)
_ENVELOPE: Final = "not a notification: the envelope is missing"


class EnvelopeSchema(Schema):
    """The signed envelope around a message. Each provider spells the members its own way.

    Unknown members are dropped: an unsubscribe URL, for example, belongs in no event.
    """

    class Meta:
        unknown = EXCLUDE


class Envelope(Protocol):
    """An envelope, as loaded from a provider's schema."""

    type: str
    topic: str
    message_id: str
    message: str
    subject: str | UnsetType | None
    timestamp: str
    subscribe_url: str | UnsetType | None
    signature: str
    signature_version: str
    certificate_url: str


def topics_option() -> Any:  # noqa: ANN401 a dataclass field stands for any type
    """Declare the accepted topics."""
    return option(
        fields.List(fields.String(error_messages=TEXT), error_messages=LIST),
        "full names of the accepted topics; messages of other topics are refused",
        (),
    )


def sha1_option(*, default: bool) -> Any:  # noqa: ANN401 as above
    """Declare whether signatures with SHA-1 are accepted."""
    return option(
        fields.Boolean(truthy={True}, falsy={False}),
        "whether signatures with SHA-1 are accepted, besides SHA-256 and better",
        default,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotificationOptions(ProviderOptions):
    """Options of a provider that publishes to topics."""

    allowed_topics: tuple[str, ...] = topics_option()
    allow_sha1: bool = sha1_option(default=False)
    clock_tolerance: float | None = tolerance_option(
        None, "how old a message may be: 1h leaves time for retries, which are not signed again; without it, any age"
    )


class NotificationProvider(ItemProvider):
    """A provider that publishes to topics. A 4xx makes it drop a message for good."""

    drops_on_4xx = True
    max_signed_body = 1 << 20  # a message of at most 256 KiB, as a JSON text in an envelope
    options_type = NotificationOptions
    options: NotificationOptions
    envelope_schema: ClassVar[type[Schema]]
    _decoder: ClassVar[Decoder]
    #: The provider's spelling of each attribute of an envelope.
    _spelling: ClassVar[dict[str, str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._decoder = ItemType.decoder_of(struct_of(cls.envelope_schema))
        cls._spelling = {
            name: name if field.data_key is None else field.data_key
            for name, field in cls.envelope_schema().fields.items()
        }

    @property
    def signed(self) -> bool:
        """Always True: a certificate needs no secret. Without ``allowed_topics`` every message is refused."""
        return True

    @property
    def hosts(self) -> tuple[str, ...]:
        """The provider's own hosts, as regular expressions."""
        raise NotImplementedError

    def digest(self, envelope: Envelope, certificate: x509.Certificate) -> HashAlgorithm | None:
        """Return the digest of the signature; None for an unknown one. Raises BadSignatureError."""
        raise NotImplementedError

    def event(self, event: Event, envelope: Envelope) -> Event:  # noqa: ARG002 for those that need one
        """Complete an event with data of the envelope. Raises ValidationError."""
        return event

    def certificate_url(self, request: CallbackRequest) -> str:
        """Return the URL in the envelope, if topic and host are allowed."""
        return self._checked_envelope(request).certificate_url

    def verify(self, request: CallbackRequest, now: float, certificate: bytes | None = None) -> None:
        """Check the signature of the envelope: RSA, PKCS #1 v1.5."""
        envelope = self._checked_envelope(request)
        if certificate is None:
            raise UnverifiableError("the certificate of the signature is missing")
        signer, key, begin, end = _signer(certificate)
        if not begin <= now <= end:
            raise UnverifiableError("the certificate of the signature is expired or not yet valid; check the clock")
        digest = self.digest(envelope, signer)
        if not isinstance(digest, _DIGESTS) or (isinstance(digest, SHA1) and not self.options.allow_sha1):
            name = "unknown" if digest is None else digest.name
            raise BadSignatureError(f"the digest of the signature is not allowed: {name}")
        try:
            key.verify(b64decode(envelope.signature, validate=True), self._signed_text(envelope), PKCS1v15(), digest)
        except (InvalidSignature, ValueError):
            raise BadSignatureError("the signature is wrong") from None
        if self.options.clock_tolerance is not None:
            require_recent(_moment(envelope.timestamp).timestamp(), now, self.options.clock_tolerance)

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse an envelope in the expected format. Returns None for others."""
        try:
            envelope = self._decoded(request)
        except UNFIT:
            return None
        if envelope.type != NOTIFICATION:
            return self._subscription(envelope, FAST)
        for item_type in self.item_types:
            try:
                item = item_type.one.decode(envelope.message)  # type: ignore[arg-type]  # it accepts str as well
            except UNFIT:
                continue
            try:
                event = self.event(item_type.to_event(self, item, None), envelope)
            except (ValidationError, IgnoredItem):
                return None
            return self.parsed([event], [], FAST)
        return None

    def parse_tolerant(self, request: CallbackRequest) -> ParsedCallback:
        """Parse an envelope, with the reasons for a rejection."""
        try:
            envelope = self._loaded(request)
        except ValidationError as error:
            return ParsedCallback([], [Rejection.of("", reasons_of(error), request.body)], SLOW)
        if envelope.type != NOTIFICATION:
            return self._subscription(envelope, SLOW)
        message = envelope.message.encode()
        try:
            loaded, new_fields = self.load_event(decode_item(message))
            event = self.event(loaded, envelope)
        except IgnoredItem:
            return ParsedCallback([], [], FAST, ignored=1)
        except ValidationError as error:
            rejection = Rejection.of(self._spelling["message"], reasons_of(error), request.body, message)
            return ParsedCallback([], [rejection], SLOW)
        return self.parsed([event], [], SLOW, new_fields=Counter(new_fields))

    def _decoded(self, request: CallbackRequest) -> Envelope:
        """Return the envelope of a request. Raises one of UNFIT."""
        if request.decoded is None:
            request.decoded = self._decoder.decode(request.body)
        envelope: Envelope = request.decoded
        return envelope

    def _loaded(self, request: CallbackRequest) -> Envelope:
        """Return the envelope of a request. Raises ValidationError with the reasons."""
        try:
            return self._decoded(request)
        except UNFIT:
            item = decode_item(request.body)
        if not isinstance(item, dict):
            raise ValidationError(_ENVELOPE)
        schema = self.envelope_schema()
        envelope: Any = build(schema, schema.load(item))[0]
        loaded: Envelope = envelope
        return loaded

    def _checked_envelope(self, request: CallbackRequest) -> Envelope:
        """Return the envelope of a request whose URLs may be fetched. Raises BadSignatureError."""
        if not self.options.allowed_topics:
            raise BadSignatureError(
                f"no topic is allowed; list topics in allowed_topics of [projects.ID.providers.{self.name}]"
            )
        try:
            envelope = self._decoded(request)
        except UNFIT:
            raise BadSignatureError(_ENVELOPE) from None
        if envelope.topic not in self.options.allowed_topics:
            raise BadSignatureError("the topic is not in allowed_topics")
        self._require_host("certificate_url", envelope.certificate_url, _CERTIFICATE_PATH)
        if envelope.type == CONFIRMATION:
            self._require_host("subscribe_url", envelope.subscribe_url or "", _ANY_PATH)
        return envelope

    def _require_host(self, member: str, url: str, path: str) -> None:
        if not any(_pattern(host, path).fullmatch(url) for host in self.hosts):
            raise BadSignatureError(f"{self._spelling[member]} is not a URL of {self.title}")

    def _signed_text(self, envelope: Envelope) -> bytes:
        names = _OF_NOTIFICATION if envelope.type == NOTIFICATION else _OF_SUBSCRIPTION
        values = ((self._spelling.get(name), getattr(envelope, name, None)) for name in names)
        return "".join(
            f"{name}\n{value}\n" for name, value in values if value is not None and value is not UNSET
        ).encode()

    def _subscription(self, envelope: Envelope, path: str) -> ParsedCallback:
        """Return the URL of a confirmation. Other messages about subscriptions are acknowledged and counted."""
        if envelope.type == CONFIRMATION:
            return ParsedCallback([], [], path, confirmation=envelope.subscribe_url or None)
        return ParsedCallback([], [], path, ignored=1)


@lru_cache(maxsize=64)
def _pattern(host: str, path: str) -> re.Pattern[str]:
    return re.compile(f"https://{host}/{path}")


@lru_cache(maxsize=64)
def _signer(pem: bytes) -> tuple[x509.Certificate, RSAPublicKey, float, float]:
    """Return a certificate, its key, and the start and end of its validity. Raises UnverifiableError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise UnverifiableError("the fetched certificate of the signature is invalid") from None
    if not isinstance(key, RSAPublicKey):
        raise UnverifiableError("the certificate of the signature has no RSA key")
    return certificate, key, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _moment(text: str) -> datetime:
    try:
        return iso_form(text)
    except ValueError:
        raise BadSignatureError("the time of the signature cannot be read") from None
