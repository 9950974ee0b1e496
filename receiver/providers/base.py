"""The interface of a provider: request bytes in, values out, no I/O.

A provider is one file. It declares its options, verifies requests, parses them, and defines its responses. The web
layer does all I/O: it reads bodies, fetches URLs for a provider, and stores events.

One instance serves one project, with the project's options for this provider.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import msgspec
from marshmallow import fields, validate

from receiver.events import (
    STATUS_DELIVERED,
    STATUS_FAILED,
    STATUS_PENDING,
    Event,
    EventType,
    RejectedData,
    encode,
)
from receiver.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON: Final = "application/json"
#: The state of a message: the type of the event, and its ``status``. PENDING is any state that is not final.
Outcome = tuple[EventType, int]
DELIVERED: Final[Outcome] = (EventType.SUCCESS, STATUS_DELIVERED)
FAILED: Final[Outcome] = (EventType.FAIL, STATUS_FAILED)
PENDING: Final[Outcome] = (EventType.SENT, STATUS_PENDING)
#: Values of the option ``inconclusive``, for final states that mean neither delivery nor failure.
INCONCLUSIVE: Final[Mapping[str, Outcome]] = {"ignore": PENDING, "fail": FAILED, "success": DELIVERED}
#: Final states of SMPP 3.4 (5.2.28), with ENROUTE and ACCEPTD, which many providers pass on as they are.
SMPP_STATES: Final = frozenset({"DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD", "ENROUTE"})
_MAX_TOLERANCE: Final = 7 * 86400
#: What parsed a callback: structs, or marshmallow because something was unexpected. Both give the same events. Ignored
#: items, which have no struct, are expected.
FAST, SLOW = "fast", "slow"


class CallbackRequest(msgspec.Struct):
    """A request as it was received.

    ``target`` is the path with its query, exactly as on the wire. ``headers`` ignores the case of names. ``body`` is
    decompressed and otherwise unchanged, because signatures cover these bytes. ``decoded`` caches what a provider has
    decoded from it, for use in both verifying and parsing.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    decoded: Any = None

    @property
    def query(self) -> str:
        """The query without the question mark, undecoded; empty if there is none."""
        return self.target.partition("?")[2]


def request_of(raw: bytes) -> CallbackRequest:
    """Return a request with a quarantined item as its body, to parse it again."""
    return CallbackRequest("POST", "", {}, raw)


class Answer(NamedTuple):
    """A response to the provider."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"


class Reason(NamedTuple):
    """Why an item was rejected; ``field`` is empty when the item as a whole is wrong."""

    field: str
    text: str

    def at(self, place: str) -> str:
        """Return ``[3].mobile: Missing data for required field.`` for the place ``[3]``."""
        where = f"{place}.{self.field}" if place and self.field else place or self.field
        return f"{where}: {self.text}" if where else self.text


class Rejection(NamedTuple):
    """An item that failed validation: its problems, each with its place, and its event for the quarantine."""

    problems: list[str]
    event: Event

    @classmethod
    def of(cls, place: str, reasons: list[Reason], raw: bytes, identity: bytes | None = None) -> Rejection:
        """Reject an item, which is kept exactly as received.

        The event does not contain the place, because a retry may order the items differently. ``identity`` replaces an
        item whose bytes differ in a retry.
        """
        data = RejectedData(event_type=EventType.REJECTED, reasons=[reason.at("") for reason in reasons])
        try:
            data.item = raw.decode()
        except UnicodeDecodeError:
            data.item_base64 = raw
        event = Event(EventType.REJECTED, None, encode(data), identity)
        return cls([reason.at(place) for reason in reasons], event)


class ParsedCallback(msgspec.Struct, frozen=True):
    """The content of a callback, in the order received."""

    events: list[Event]
    rejections: list[Rejection]
    #: FAST or SLOW.
    path: str
    #: Number of items with a state that is not final. They are published only with the option ``pending``.
    pending: int = 0
    #: Number of items that are not about SMS. They are acknowledged without an event.
    ignored: int = 0
    #: A URL to fetch before the ack, which confirms a subscription.
    confirmation: str | None = None
    #: Names of fields that the schemas do not know, with the number of their items.
    new_fields: Mapping[str, int] | None = None
    #: Bytes that the items have beyond those of the body, because each has a copy of what they share.
    copied_bytes: int = 0


def option(field: fields.Field[Any], help_: str, default: Any = None) -> Any:  # noqa: ANN401 a dataclass field stands for any type
    """Declare an option of a provider: its validation, help text and default."""
    return dataclasses.field(default=default, repr=False, metadata={"field": field, "help": help_})


def inconclusive_option(default: str = "ignore") -> Any:  # noqa: ANN401 as above
    """Declare the meaning of final states that show neither delivery nor failure."""
    return option(
        fields.String(validate=validate.OneOf([*INCONCLUSIVE])),
        "meaning of a final state without a result: ignore (as not final), fail or success",
        default,
    )


def tolerance_option(
    default: float | None = 300.0,
    help_: str = "how far the time of a signature may be from our clock: 5m; more if retries are not signed again",
) -> Any:  # noqa: ANN401 as above
    """Declare how far the time of a signature may be from our clock, in seconds. None allows any time."""
    field = Seconds(validate=validate.Range(1, _MAX_TOLERANCE, error="must be from 1s to 7d."))
    return option(field, help_, default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProviderOptions:
    """A project's options for a provider: ``[projects.ID.providers.NAME]`` in the TOML file.

    A subclass adds fields with ``option``. Options hold secrets: they are never logged.
    """

    #: Only for providers with ``has_pending``.
    pending: bool = option(
        fields.Boolean(truthy={True}, falsy={False}),
        "true: publish states that are not final as sms_sent_event with status 0",
        default=False,
    )


class Provider:
    """A sender of callbacks, for one project. Subclasses define signature, payloads and responses.

    The defaults fit a provider that signs nothing and expects HTTP 200 with an empty body.
    """

    #: The name in ``/callbacks/{provider}/{project_id}``, in events and in metrics.
    name: ClassVar[str]
    #: The name in documentation and error messages.
    title: ClassVar[str]
    options_type: ClassVar[type[ProviderOptions]] = ProviderOptions
    #: The ack: all items are stored.
    ack: ClassVar[Answer] = Answer(200)
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    #: Whether signatures cover the URL. Verifying them requires the project's ``public_url``.
    signs_url: ClassVar[bool] = False
    #: Whether the provider reports states that are not final.
    has_pending: ClassVar[bool] = False
    #: Whether recipients of one request may have the same message id. Then id and recipient together name a report.
    shared_ids: ClassVar[bool] = False
    #: Whether a 4xx makes the provider drop the items for good. Then what fails validation is acknowledged, once it is
    #: in the quarantine.
    drops_on_4xx: ClassVar[bool] = False
    #: Largest body of a signed callback, in bytes after decompression; None for RECEIVER_MAX_BODY. Needed where
    #: ``certificate_url`` or ``verify`` decodes the body, which a stranger may have sent.
    max_signed_body: ClassVar[int | None] = None
    #: Known values of ``status_desc``: metrics count each by its name, and all others as ``other``.
    codes: ClassVar[frozenset[str]] = frozenset()
    #: The query of the callback URL, for a provider that fills it in.
    url_query: ClassVar[str] = ""
    #: What else to know when the URL is entered at the provider: a sentence.
    url_advice: ClassVar[str] = ""

    def __init__(
        self,
        options: Any = None,  # noqa: ANN401 each provider has its own type
        *,
        public_url: str = "",
        sign_id: str | None = None,
        max_items: int = 10_000,
    ) -> None:
        """Set up for one project. ``public_url`` has no path of the callback.

        ``sign_id`` is the project's own, ``max_items`` the maximum number of items in a callback.
        """
        self.options = self.options_type() if options is None else options
        self.public_url = public_url
        self.sign_id = sign_id
        self.max_items = max_items

    @property
    def signed(self) -> bool:
        """Whether ``verify`` authenticates the sender, so that the URL needs no key."""
        return False

    @property
    def verifies(self) -> bool:
        """Whether to call ``verify``. It may authenticate only some callbacks: then the URL needs a key too."""
        return self.signed

    def certificate_url(self, request: CallbackRequest) -> str | None:  # noqa: ARG002 for those that need one
        """Return the URL of the certificate that ``verify`` needs, or None.

        Raises BadSignatureError for a URL of a foreign host, which must not be fetched.
        """
        return None

    def verify(self, request: CallbackRequest, now: float, certificate: bytes | None = None) -> None:
        """Check the signature of a request. ``now`` is in seconds since the epoch, ``certificate`` in PEM.

        A stranger may have sent the request: if the body is decoded here, ``max_signed_body`` bounds the cost.

        Raises BadSignatureError, or UnverifiableError if the check is not possible now.
        """

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse a request in the expected format, in a few µs an item. Returns None for any other request.

        Raises TooManyItemsError.
        """
        raise NotImplementedError

    def parse_tolerant(self, request: CallbackRequest) -> ParsedCallback:
        """Parse a request for which ``parse_fast`` returned None, with the reasons for each rejection.

        Invalid content never raises. Raises TooManyItemsError.
        """
        raise NotImplementedError

    def parse(self, request: CallbackRequest) -> ParsedCallback:
        """Parse a request with the fast parser if possible, else with the tolerant one. Raises TooManyItemsError."""
        return self.parse_fast(request) or self.parse_tolerant(request)

    def parsed(
        self,
        events: list[Event],
        rejections: list[Rejection],
        path: str,
        ignored: int = 0,
        new_fields: Mapping[str, int] | None = None,
    ) -> ParsedCallback:
        """Return the parsed callback. States that are not final are dropped without the option ``pending``."""
        if not self.has_pending:
            return ParsedCallback(events, rejections, path, 0, ignored, None, new_fields)
        final = [event for event in events if event.type is not EventType.SENT]
        pending = len(events) - len(final)
        published = events if self.options.pending else final
        return ParsedCallback(published, rejections, path, pending, ignored, None, new_fields)

    def refuse(self, status: int, message: str) -> Answer:
        """Return the response to a callback that is not acknowledged."""
        return Answer(status, msgspec.json.encode({"error": message}), JSON)
