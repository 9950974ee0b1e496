"""What a provider is: the bytes of a request in, values out, no I/O.

A provider is one file. It names its options, verifies a request, parses it, and answers in its own format. The web
layer does everything that waits: it reads the body, fetches what a provider names, and stores the events.

One instance serves one project: it knows the project's options at this provider.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import msgspec
from marshmallow import fields, validate

from receiver.events import Event, EventType, RejectedData, encode
from receiver.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON: Final = "application/json"
#: What becomes of a message: the type of the event, and its ``status``. PENDING is any state that is not final.
Outcome = tuple[EventType, int]
DELIVERED: Final[Outcome] = (EventType.SUCCESS, 1)
FAILED: Final[Outcome] = (EventType.FAIL, 2)
PENDING: Final[Outcome] = (EventType.SENT, 0)
#: What the option ``inconclusive`` may say, for final states that tell neither.
INCONCLUSIVE: Final[Mapping[str, Outcome]] = {"ignore": PENDING, "fail": FAILED, "success": DELIVERED}
_LONGEST_TOLERANCE: Final = 7 * 86400
#: The two paths of a parser; both give the same events.
FAST, SLOW = "fast", "slow"


class CallbackRequest(msgspec.Struct):
    """A request as it was received.

    ``target`` is the path with its query, exactly as on the wire. ``headers`` ignores the case of names. ``body`` is
    decompressed, and otherwise untouched: signatures cover these bytes. ``decoded`` is what a provider has decoded of
    it: verifying and parsing need it both.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    decoded: Any = None

    @property
    def query(self) -> str:
        """What follows the question mark, undecoded; empty without one."""
        return self.target.partition("?")[2]


def request_of(raw: bytes) -> CallbackRequest:
    """Return a request that holds nothing but a quarantined item, to parse it again."""
    return CallbackRequest("POST", "", {}, raw)


class Answer(NamedTuple):
    """What goes back to the provider."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"


class Reason(NamedTuple):
    """Why an item was rejected; ``field`` is empty when the item as a whole is wrong."""

    field: str
    text: str

    def at(self, place: str) -> str:
        """Return ``[3].mobile: Missing data for required field.`` for place ``[3]``."""
        where = f"{place}.{self.field}" if place and self.field else place or self.field
        return f"{where}: {self.text}" if where else self.text


class Rejection(NamedTuple):
    """An item that failed validation: the problems, each with its place, and its event for the quarantine."""

    problems: list[str]
    event: Event

    @classmethod
    def of(cls, place: str, reasons: list[Reason], raw: bytes, identity: bytes | None = None) -> Rejection:
        """Keep an item exactly as received. The event does not hold the place: a retry may shuffle the items.

        ``identity`` stands for an item that holds something else in a retry.
        """
        data = RejectedData(event_type=EventType.REJECTED, reasons=[reason.at("") for reason in reasons])
        try:
            data.item = raw.decode()
        except UnicodeDecodeError:
            data.item_base64 = raw
        event = Event(EventType.REJECTED, None, encode(data), identity)
        return cls([reason.at(place) for reason in reasons], event)


class ParsedCallback(msgspec.Struct, frozen=True):
    """What a callback holds, in the order received."""

    events: list[Event]
    rejections: list[Rejection]
    #: FAST or SLOW.
    path: str
    #: Items with a state that is not final: acknowledged and counted, and published only if the project asks.
    pending: int = 0
    #: Items that are not about SMS: acknowledged and counted.
    ignored: int = 0
    #: A URL that has to be fetched before the ack: it confirms a subscription.
    confirmation: str | None = None


def option(field: fields.Field[Any], help_: str, default: Any = None) -> Any:  # noqa: ANN401 a dataclass field stands for any type
    """Declare an option of a provider: how it is validated, what it means, and its default."""
    return dataclasses.field(default=default, repr=False, metadata={"field": field, "help": help_})


def inconclusive_option(default: str = "ignore") -> Any:  # noqa: ANN401 as above
    """Declare what a final state that tells neither delivery nor failure counts as."""
    return option(
        fields.String(validate=validate.OneOf([*INCONCLUSIVE])),
        "what a final state that tells nothing counts as: ignore (as not final), fail or success",
        default,
    )


def tolerance_option(
    default: float | None = 300.0,
    help_: str = "how far from our clock the time of a signature may be: 5m; more if retries are not signed again",
) -> Any:  # noqa: ANN401 as above
    """Declare how far from our clock the time of a signature may be, in seconds; None: any time."""
    field = Seconds(validate=validate.Range(1, _LONGEST_TOLERANCE, error="must be from 1s to 7d."))
    return option(field, help_, default)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProviderOptions:
    """What a project may configure at a provider: ``[projects.ID.providers.NAME]`` in the TOML file.

    A subclass adds fields with ``option``. Options hold secrets: they are never logged.
    """

    #: Only for providers that have them: ``has_pending``.
    pending: bool = option(
        fields.Boolean(truthy={True}, falsy={False}),
        "true: publish states that are not final as sms_sent_event with status 0",
        default=False,
    )


class Provider:
    """A sender of callbacks, as one project uses it. Subclasses say how it signs, what it sends and how it is answered.

    The defaults are those of a provider that signs nothing and wants HTTP 200 with an empty body.
    """

    #: The name in ``/callbacks/{provider}/{project_id}``, in events and in metrics.
    name: ClassVar[str]
    #: The name in documents for people.
    title: ClassVar[str]
    options_type: ClassVar[type[ProviderOptions]] = ProviderOptions
    #: The answer that says that everything is safe.
    ack: ClassVar[Answer] = Answer(200)
    methods: ClassVar[frozenset[str]] = frozenset({"POST"})
    #: Whether signatures cover the URL. Then a project that verifies them has to configure its ``public_url``.
    signs_url: ClassVar[bool] = False
    #: Whether the provider tells of states that are not final.
    has_pending: ClassVar[bool] = False
    #: Whether recipients of one request may have the same message id. Then id and recipient together name a report.
    shared_ids: ClassVar[bool] = False
    #: Whether a 4xx makes the provider drop the items for good. Then what fails validation is acknowledged, once it is
    #: in the quarantine.
    drops_on_4xx: ClassVar[bool] = False

    def __init__(
        self,
        options: Any = None,  # noqa: ANN401 each provider has a type of its own
        *,
        public_url: str = "",
        sign_id: str | None = None,
        max_items: int = 10_000,
    ) -> None:
        """Take a project's options, its public URL without the path of the callback, its own ``sign_id``.

        ``max_items`` is how many items a callback may have.
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
        """Whether ``verify`` is to be called: also where it authenticates some callbacks, and the others need a key."""
        return self.signed

    def certificate_url(self, request: CallbackRequest) -> str | None:  # noqa: ARG002 for those that need one
        """Return the URL of the certificate that ``verify`` needs, or None.

        Raises BadSignatureError for a URL that is not the provider's: nothing may be fetched from there.
        """
        return None

    def verify(self, request: CallbackRequest, now: float, certificate: bytes | None = None) -> None:
        """Check the signature of a request. ``now`` is in seconds since the epoch, ``certificate`` PEM.

        Raises BadSignatureError, and UnverifiableError when it cannot tell.
        """

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse a request all of which is as expected, a few µs an item; else return None.

        Raises TooManyItemsError.
        """
        raise NotImplementedError

    def parse_slow(self, request: CallbackRequest) -> ParsedCallback:
        """Parse a request that ``parse_fast`` returned None for, with the reasons for each rejection.

        Never raises for what a request holds. Raises TooManyItemsError.
        """
        raise NotImplementedError

    def parse(self, request: CallbackRequest) -> ParsedCallback:
        """Parse a request on the path that fits. Raises TooManyItemsError."""
        return self.parse_fast(request) or self.parse_slow(request)

    def parsed(self, events: list[Event], rejections: list[Rejection], path: str, ignored: int = 0) -> ParsedCallback:
        """Return what was parsed, without events of states that are not final unless the project asks for them."""
        if not self.has_pending:
            return ParsedCallback(events, rejections, path, 0, ignored)
        final = [event for event in events if event.type is not EventType.SENT]
        pending = len(events) - len(final)
        return ParsedCallback(events if self.options.pending else final, rejections, path, pending, ignored)

    def refuse(self, status: int, message: str) -> Answer:
        """Return the answer to a callback that is not acknowledged."""
        return Answer(status, msgspec.json.encode({"error": message}), JSON)
