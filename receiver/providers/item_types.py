"""Item types: a marshmallow schema, and a pure function that turns an item into an event.

Two parsers give the same result. ``parse_fast`` decodes the whole body into structs. If anything does not fit,
``parse_tolerant`` goes item by item: marshmallow names the errors, and valid items become events.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NoReturn, Protocol, TypeVar, cast

import msgspec
from marshmallow import INCLUDE, Schema, ValidationError, fields

from receiver.providers.base import FAST, SLOW, ParsedCallback, Provider, Reason, Rejection
from receiver.providers.json_items import NotJsonError, bound, bound_nesting, decode_item, member, split
from receiver.providers.schema import InexpressibleError, build, deserialize, struct_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from receiver.events import Event
    from receiver.providers.base import CallbackRequest

P = TypeVar("P", bound=Provider)
ItemT = TypeVar("ItemT")
#: Unknown fields of one item that are named, of which there may be thousands.
_MAX_NEW: Final = 100
_JSON_TYPES: Final = {str: "a string", bool: "a boolean", type(None): "null", list: "an array"}
#: Exceptions of decoding: invalid JSON, wrong types, invalid UTF-8, too much nesting.
UNFIT: Final = (msgspec.MsgspecError, ValueError, RecursionError)


class Decoder(Protocol):
    """The interface of msgspec's decoders."""

    def decode(self, body: bytes, /) -> Any:  # noqa: ANN401 the decoder's type
        """Return the decoded value. Raises one of UNFIT."""


class _NoDecoder:
    """Always fails, so that the tolerant parser is used."""

    def decode(self, _body: bytes, /) -> NoReturn:
        raise ValueError("the schema cannot be expressed as a struct")


_NO_DECODER: Final = _NoDecoder()


class _Enclosed:
    """Decodes one member of an object: a list of items, or a single item."""

    def __init__(self, name: str, struct: Any) -> None:  # noqa: ANN401 a struct
        member_field = ("items", GenericAlias(list, struct) | struct)
        self._decoder = ItemType.decoder_of(msgspec.defstruct("Enclosing", [member_field], rename={"items": name}))

    def decode(self, body: bytes, /) -> Any:  # noqa: ANN401 as the protocol has it
        return self._decoder.decode(body).items


class ItemSchema(Schema):
    """A schema of items, or of objects in them.

    It keeps unknown fields: a field that a provider adds one day must not reject the item.
    """

    class Meta:
        unknown = INCLUDE


class ItemType(Generic[P, ItemT]):
    """One type of item: its schema, the fields that distinguish it from other types, and its conversion to an event.

    ``to_event`` gets the provider, the loaded item, and the unknown fields. It may raise IgnoredItem, and
    ValidationError for conditions across fields.
    """

    def __init__(
        self,
        schema: type[Schema],
        discriminators: Iterable[str],
        to_event: Callable[[P, ItemT, dict[str, Any] | None], Event],
    ) -> None:
        self.schema = schema()
        self.discriminators = frozenset(discriminators)
        self.to_event = to_event
        self._attributes = {field.attribute or name for name, field in self.schema.fields.items()}
        self.one: Decoder = _NO_DECODER
        self.many: Decoder = _NO_DECODER
        self.fast = True
        try:
            self.struct: Any = struct_of(schema)
        except InexpressibleError:  # then marshmallow loads every item, and the struct only holds the result
            self.fast = False
            self.struct = msgspec.defstruct(schema.__name__, [(name, Any, msgspec.UNSET) for name in self._attributes])
        else:
            self.one = self.decoder_of(self.struct)
            self.many = self.decoder_of(GenericAlias(list, self.struct))

    @staticmethod
    def decoder_of(decoded_type: Any) -> Decoder:  # noqa: ANN401 a type expression
        """Return a fast decoder for structs that were derived from schemas."""
        return msgspec.json.Decoder(decoded_type, dec_hook=deserialize)

    def convert(self, item: Mapping[str, Any]) -> ItemT:
        """Return the struct of a decoded item, for example of a form. Raises one of UNFIT."""
        if not self.fast:
            raise ValueError("the schema cannot be expressed as a struct")
        converted: ItemT = msgspec.convert(item, self.struct, dec_hook=deserialize)
        return converted

    def load(self, item: dict[str, Any]) -> tuple[ItemT, dict[str, Any] | None]:
        """Load an item with marshmallow. Returns it, and the unknown fields.

        Raises marshmallow.ValidationError.
        """
        loaded: dict[str, Any] = self.schema.load(item)
        if self.fast:
            struct, extra = build(self.schema, loaded)
        else:
            struct = self.struct(**{name: value for name, value in loaded.items() if name in self._attributes})
            extra = {name: value for name, value in loaded.items() if name not in self._attributes}
        for name, value in extra.items():
            bound_nesting(value, name)
        return cast("ItemT", struct), extra or None

    def new_fields(self, extra: Mapping[str, Any]) -> list[str]:
        """Return the names of unknown fields, those of nested objects as ``price.vat``: at most _MAX_NEW of them."""
        return [*islice(_paths(self.schema, extra), _MAX_NEW)]


class ItemProvider(Provider):
    """A provider whose callbacks are JSON: an array of items, or a single item."""

    #: The first type is the one that comes in arrays, the last the one that most often comes alone.
    item_types: tuple[ItemType[Any, Any], ...]
    #: The reason for rejecting items of an unknown type.
    unlike: str
    #: The member of an object that holds the items, a list or a single one; other members are dropped. None: there is
    #: no enclosing object. Items without the object are parsed too: that is how they return from the quarantine.
    items_in: ClassVar[str | None] = None
    #: Number of leading ``item_types`` that come in arrays, each in its own.
    types_in_arrays: ClassVar[int] = 1
    #: Decoders for an array and for an object, in the order of likelihood.
    _of_array: ClassVar[tuple[tuple[ItemType[Any, Any], Decoder], ...]]
    _of_object: ClassVar[tuple[tuple[ItemType[Any, Any], Decoder], ...]]

    def __init_subclass__(cls) -> None:
        item_types = [item_type for item_type in getattr(cls, "item_types", ()) if item_type.fast]
        cls._of_array = tuple((item_type, item_type.many) for item_type in item_types[: cls.types_in_arrays])
        if cls.items_in is None:
            cls._of_object = tuple((item_type, item_type.one) for item_type in reversed(item_types))
        else:
            cls._of_object = tuple((one, _Enclosed(cls.items_in, one.struct)) for one in item_types)

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse a body in the expected format, in about 1 µs an item; else return None. Raises TooManyItemsError."""
        body = request.body
        for item_type, decoder in self._of_object if body[:1] == b"{" else self._of_array:
            try:
                items: list[Any] = decoder.decode(body)
            except UNFIT:
                continue
            if not isinstance(items, list):
                items = [items]
            bound(len(items), self.max_items)
            to_event = item_type.to_event
            try:
                events = [to_event(self, item, None) for item in items]
            except (ValidationError, IgnoredItem):
                return None
            return self.parsed(events, [], FAST)
        return None

    def parse_tolerant(self, request: CallbackRequest) -> ParsedCallback:
        """Parse a body item by item, 25 to 70 µs each, with the reasons for rejections. Raises TooManyItemsError."""
        try:
            items = self.split(request.body)
        except NotJsonError as error:
            return ParsedCallback([], [Rejection.of("", [Reason("", str(error))], request.body)], SLOW)
        copied = sum(len(raw) for _, raw in items) - len(request.body)
        return msgspec.structs.replace(self.parse_items(items), copied_bytes=max(0, copied))

    def split(self, body: bytes) -> list[tuple[str, bytes]]:
        """Return the place and the text of each item. Raises NotJsonError and TooManyItemsError."""
        value = None if self.items_in is None else member(body, self.items_in, self.max_items)
        if value is None:
            return split(body, self.max_items)
        return [(f"{self.items_in}{place}", raw) for place, raw in split(value, self.max_items)]

    def parse_items(self, items: Iterable[tuple[str, bytes]]) -> ParsedCallback:
        """Parse each item on its own, given its place and text."""
        events: list[Event] = []
        rejections: list[Rejection] = []
        new_fields: Counter[str] = Counter()
        ignored = 0
        expected = True
        for place, raw in items:
            try:
                event, unknown = self._parse_item(raw)
                events.append(event)
                if unknown is not None:
                    expected = False
                    new_fields.update(unknown)
            except IgnoredItem:
                ignored += 1
            except ValidationError as error:
                rejections.append(Rejection.of(place, reasons_of(error), raw))
        # Ignored items have no struct, and are no sign of another format.
        path = FAST if ignored and expected and not rejections else SLOW
        return self.parsed(events, rejections, path, ignored, new_fields)

    def type_of(self, item: dict[str, Any]) -> ItemType[Any, Any]:
        """Return the type of a decoded item. Raises IgnoredItem, and ValidationError for an unknown type."""
        found = max(self.item_types, key=lambda item_type: len(item_type.discriminators.intersection(item)))
        if found.discriminators.isdisjoint(item):
            raise ValidationError(self.unlike)
        return found

    def load_event(self, item: object) -> tuple[Event, list[str]]:
        """Load a decoded item with marshmallow. Returns its event, and the names of its unknown fields.

        Raises ValidationError and IgnoredItem.
        """
        if not isinstance(item, dict):
            raise ValidationError(f"expected an object, got {_JSON_TYPES.get(type(item), 'a number')}")
        item_type = self.type_of(item)
        loaded, extra = item_type.load(item)
        unknown = item_type.new_fields(extra) if extra else []  # before ``to_event``, which may take extra apart
        return item_type.to_event(self, loaded, extra), unknown

    def _parse_item(self, raw: bytes) -> tuple[Event, list[str] | None]:
        """Return the event of an item, and the names of its unknown fields; None if its struct decoded it.

        Raises ValidationError and IgnoredItem.
        """
        for item_type in self.item_types:
            try:
                item = item_type.one.decode(raw)
            except UNFIT:
                continue
            return item_type.to_event(self, item, None), None
        return self.load_event(decode_item(raw))


class IgnoredItem(Exception):  # noqa: N818 it is a result, not an error
    """The item is not about SMS or has no event type: it is acknowledged and counted, without an event."""


def _paths(schema: Schema, extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of unknown fields. A name that the schema knows is of a nested object with unknown fields."""
    declared = {name if field.data_key is None else field.data_key: field for name, field in schema.fields.items()}
    for name, value in extra.items():
        field = declared.get(name)
        if not isinstance(field, fields.Nested):
            yield name
            continue
        for nested in value if isinstance(value, list) else [value]:
            yield from (f"{name}.{inner}" for inner in _paths(field.schema, nested))


def kept(named: Mapping[str, Any], unknown: Mapping[str, Any] | None) -> dict[str, Any] | msgspec.UnsetType:
    """Return an event's ``extra``: the named values that the item has, and its unknown fields."""
    extra = {name: value for name, value in named.items() if value is not msgspec.UNSET and value is not None}
    for name, value in (unknown or {}).items():
        extra[name] = _merged(msgspec.to_builtins(extra[name]), value) if name in extra else value
    return extra or msgspec.UNSET


def _merged(declared: Any, unknown: Any) -> Any:  # noqa: ANN401 any JSON
    if isinstance(declared, list):
        return [_merged(one, more) for one, more in zip(declared, unknown, strict=True)]
    if not isinstance(declared, dict):
        return unknown
    return {**declared, **{name: _merged(declared.get(name), value) for name, value in unknown.items()}}


def reasons_of(error: ValidationError) -> list[Reason]:
    """Return marshmallow's messages as the reasons of a rejection."""
    messages: Any = error.normalized_messages()  # type: ignore[no-untyped-call]
    return [Reason(field.removeprefix("_schema"), _text(text)) for field, text in messages.items()]


def _text(messages: Any) -> str:  # noqa: ANN401 marshmallow's tree of messages
    if isinstance(messages, dict):
        return " ".join(f"{step}: {_text(inner)}" for step, inner in messages.items())
    return " ".join(str(message) for message in messages)
