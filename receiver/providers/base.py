"""What a provider is, and how the bytes of any provider's callback become events and rejections.

A provider is its kinds of item (a marshmallow schema and a pure function each) and its way to answer. Reading has
two ways with the same result: the whole body straight into structs; or, when anything in it does not fit, item by
item, where marshmallow says what is wrong and the good items go on.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol

import msgspec
from marshmallow import Schema, ValidationError

from receiver.events import Event, EventType, RejectedData, encode
from receiver.providers.items import NotJsonError, bound, bound_nesting, decode_item, split
from receiver.providers.schema import InexpressibleError, deserialize, struct_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_JSON_TYPES: Final = {str: "a string", bool: "a boolean", type(None): "null", list: "an array"}
#: What decoding raises for bytes that do not fit: wrong JSON, wrong types, not UTF-8, too deep.
UNFIT: Final = (msgspec.MsgspecError, ValueError, RecursionError)


class Reason(NamedTuple):
    """Why an item was refused; ``field`` is empty when it is about the item as a whole."""

    field: str
    text: str

    def at(self, place: str) -> str:
        """Return ``[3].mobile: Missing data for required field.`` for place ``[3]``."""
        where = f"{place}.{self.field}" if place and self.field else place or self.field
        return f"{where}: {self.text}" if where else self.text


class Rejection(NamedTuple):
    """An item that was not accepted: the problems, each with its place, and its event for the quarantine."""

    problems: list[str]
    event: Event

    @classmethod
    def of(cls, place: str, reasons: list[Reason], raw: bytes) -> Rejection:
        """Keep an item exactly as received. The event does not hold the place: a retry may shuffle the items."""
        data = RejectedData(event_type=EventType.REJECTED, reasons=[reason.at("") for reason in reasons])
        try:
            data.item = raw.decode()
        except UnicodeDecodeError:
            data.item_base64 = raw
        event = Event(EventType.REJECTED, None, encode(data))
        return cls([reason.at(place) for reason in reasons], event)


class Reading(msgspec.Struct, frozen=True):
    """What a callback holds, in the order received."""

    events: list[Event]
    rejections: list[Rejection]
    way: str  # fast, or slow: how it was read


class Provider(Protocol):
    """A sender of callbacks. Bytes in, values out: no I/O."""

    name: str

    def read(self, body: bytes, sign_id: str | None, max_items: int) -> Reading:
        """Turn a body into events and rejections. Never raises for what a body holds.

        Raises TooManyItemsError when there are more than ``max_items``. It is ``read_fast``, else ``read_slowly``.
        """

    def read_fast(self, body: bytes, sign_id: str | None, max_items: int) -> Reading | None:
        """Do the same, if it takes no longer than a few µs an item; else return None."""

    def read_slowly(self, body: bytes, sign_id: str | None, max_items: int) -> Reading:
        """Do the same for a body that ``read_fast`` returned None for."""

    def answer(self, code: int, message: str) -> bytes:
        """Return the body of an answer in the provider's own format; code 0 is the ack."""


class Decoder(Protocol):
    """What msgspec's decoders have in common."""

    def decode(self, body: bytes, /) -> Any:  # noqa: ANN401 whatever it was made for
        """Return the value, or raise one of UNFIT."""


class _NoWay:
    """Stands for the fast way where there is none."""

    def decode(self, _body: bytes, /) -> NoReturn:
        raise ValueError("the schema cannot be expressed as a struct")


_NO_WAY: Final = _NoWay()


class Kind:
    """One kind of item: its schema, the fields that tell it from other kinds, and what it becomes."""

    def __init__(
        self,
        schema: type[Schema],
        marks: Iterable[str],
        normalise: Callable[[Any, dict[str, Any] | None, str | None], Event],
    ) -> None:
        """Derive the decoders.

        ``normalise`` gets the struct, the fields that the schema does not know, and the project's own ``sign_id``.
        """
        self.schema = schema()
        self.marks = frozenset(marks)
        self.normalise = normalise
        self._known = {field.attribute or name for name, field in self.schema.fields.items()}
        self.one: Decoder = _NO_WAY
        self.many: Decoder = _NO_WAY
        try:
            self.struct: Any = struct_of(schema)
        except InexpressibleError:  # then marshmallow reads all, and the struct only holds what it has read
            self.struct = msgspec.defstruct(schema.__name__, [(name, Any, msgspec.UNSET) for name in self._known])
        else:
            self.one = msgspec.json.Decoder(self.struct, dec_hook=deserialize)
            self.many = msgspec.json.Decoder(GenericAlias(list, self.struct), dec_hook=deserialize)

    def load(self, item: dict[str, Any], sign_id: str | None) -> Event:
        """Load an item with marshmallow. Raises marshmallow.ValidationError."""
        loaded: dict[str, Any] = self.schema.load(item)
        known = {name: value for name, value in loaded.items() if name in self._known}
        extra = {name: value for name, value in loaded.items() if name not in self._known}
        for name, value in extra.items():
            bound_nesting(value, name)
        return self.normalise(self.struct(**known), extra or None, sign_id)


class SchemaReader:
    """Reads callbacks whose items are described by kinds."""

    def __init__(self, kinds: tuple[Kind, ...], unlike: str) -> None:
        """Take the kinds, the one that comes in batches first, and the reason for items that are none of them."""
        self._kinds = kinds
        self._unlike = unlike

    def read(self, body: bytes, sign_id: str | None, max_items: int) -> Reading:
        """Read a body: an array of items or a single one. Raises TooManyItemsError."""
        return self.read_fast(body, sign_id, max_items) or self.read_slowly(body, sign_id, max_items)

    def read_fast(self, body: bytes, sign_id: str | None, max_items: int) -> Reading | None:
        """Read a body all of which is as expected, about 1 µs an item; else return None. Raises TooManyItemsError."""
        kind, decoder = self._likely(body)
        try:
            items: list[Any] = decoder.decode(body)
        except UNFIT:
            return None
        if not isinstance(items, list):
            items = [items]
        bound(len(items), max_items)
        normalise = kind.normalise
        return Reading([normalise(item, None, sign_id) for item in items], [], "fast")

    def _likely(self, body: bytes) -> tuple[Kind, Decoder]:
        """Guess the kind from the first byte: batches are arrays of the first kind, single items of the last."""
        if body[:1] == b"{":
            return self._kinds[-1], self._kinds[-1].one
        return self._kinds[0], self._kinds[0].many

    def read_slowly(self, body: bytes, sign_id: str | None, max_items: int) -> Reading:
        """Read a body item by item, 25 to 70 µs each, with reasons for those refused. Raises TooManyItemsError."""
        try:
            items = split(body, max_items)
        except NotJsonError as error:
            return Reading([], [Rejection.of("", [Reason("", str(error))], body)], "slow")
        events: list[Event] = []
        rejections: list[Rejection] = []
        for place, raw in items:
            event, reasons = self._read_item(raw, sign_id)
            if event is None:
                rejections.append(Rejection.of(place, reasons, raw))
            else:
                events.append(event)
        return Reading(events, rejections, "slow")

    def _read_item(self, raw: bytes, sign_id: str | None) -> tuple[Event | None, list[Reason]]:
        for kind in self._kinds:
            try:
                return kind.normalise(kind.one.decode(raw), None, sign_id), []
            except UNFIT:
                continue
        try:
            return self._load(decode_item(raw), sign_id), []
        except ValidationError as error:
            messages: Any = error.normalized_messages()  # type: ignore[no-untyped-call]
            return None, [Reason(field.removeprefix("_schema"), _text(text)) for field, text in messages.items()]

    def _load(self, item: object, sign_id: str | None) -> Event:
        if not isinstance(item, dict):
            raise ValidationError(f"expected an object, got {_JSON_TYPES.get(type(item), 'a number')}")
        kind = max(self._kinds, key=lambda kind: len(kind.marks & item.keys()))
        if kind.marks & item.keys():
            return kind.load(item, sign_id)
        raise ValidationError(self._unlike)


def _text(messages: Any) -> str:  # noqa: ANN401 marshmallow's tree of messages
    if isinstance(messages, dict):
        return " ".join(f"{step}: {_text(inner)}" for step, inner in messages.items())
    return " ".join(str(message) for message in messages)
