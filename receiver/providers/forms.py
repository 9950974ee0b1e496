"""Providers that send one item a request, as parameters of a form or query."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote_to_bytes

import msgspec
from marshmallow import ValidationError

from receiver.errors import BadSignatureError
from receiver.providers.base import FAST, SLOW, ParsedCallback, Rejection
from receiver.providers.item_types import UNFIT, IgnoredItem, ItemProvider, reasons_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from receiver.providers.base import CallbackRequest

#: A bound above the parameters of any provider. Parsing that many takes 0.5 ms.
MAX_PARAMETERS: Final = 500
#: Our own parameter in the callback URL, with the project's key.
KEY: Final = "key"


class FormProvider(ItemProvider):
    """A provider whose callbacks are parameters. Empty requests (a dashboard's URL check) are acknowledged."""

    methods = frozenset({"GET", "POST"})
    #: One item, whose longest text is 1,600 characters: 20 kB at most when encoded.
    max_signed_body: ClassVar[int | None] = 64 << 10
    #: Parameters of the push, not of the item. They differ in a retry.
    of_push: ClassVar[frozenset[str]] = frozenset()

    def parse_fast(self, request: CallbackRequest) -> ParsedCallback | None:
        """Parse parameters in the expected format. Returns None for others."""
        try:
            item = self.item_of(request)
            if not item:
                return ParsedCallback([], [], FAST)
            item_type = self.type_of(item)
            event = item_type.to_event(self, item_type.convert(item), None)
        except (*UNFIT, ValidationError, IgnoredItem):
            return None
        return self.parsed([event], [], FAST)

    def parse_tolerant(self, request: CallbackRequest) -> ParsedCallback:
        """Parse parameters, with the reasons for a rejection."""
        try:
            item = self._decoded(request)
            if not item:
                return ParsedCallback([], [], SLOW)
            event, new_fields = self.load_event(item)
        except IgnoredItem:
            return ParsedCallback([], [], FAST, ignored=1)
        except ValidationError as error:
            rejection = Rejection.of("", reasons_of(error), raw_of(request), self._identity(request))
            return ParsedCallback([], [rejection], SLOW)
        return self.parsed([event], [], SLOW, new_fields=Counter(new_fields))

    def item_of(self, request: CallbackRequest) -> dict[str, Any]:
        """Return the parameters of a request as an item. Raises ValueError if they cannot be decoded."""
        return merged(parameters(request))

    def _identity(self, request: CallbackRequest) -> bytes | None:
        """Return the part of a rejected item that is equal in retries; None if all of it is."""
        if not self.of_push or not request.decoded:
            return None
        return msgspec.json.encode(sorted(pair for pair in request.decoded if pair[0] not in self.of_push))

    def _decoded(self, request: CallbackRequest) -> dict[str, Any]:
        try:
            return self.item_of(request)
        except UnicodeDecodeError as error:
            raise ValidationError(f"not UTF-8: byte {error.object[error.start]:#04x}") from None
        except ValueError as error:
            raise ValidationError(f"invalid parameters: {error}") from None


def parameters(request: CallbackRequest) -> list[tuple[str, str]]:
    """Return the decoded parameters of the form, or of the query without a body, in the order received.

    Raises ValueError for more than MAX_PARAMETERS, and UnicodeDecodeError.
    """
    pairs: list[tuple[str, str]] | None = request.decoded
    if pairs is None:
        pairs = _pairs(text_of(request))
        if not request.body:
            pairs = [pair for pair in pairs if pair[0] != KEY]
        request.decoded = pairs
    return pairs


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return names and values, as ``urllib.parse.parse_qsl`` does in twice the time: 11 µs for ten of them."""
    parts = text.split("&", MAX_PARAMETERS)
    if len(parts) > MAX_PARAMETERS:
        raise ValueError(f"more than {MAX_PARAMETERS} parameters")
    pairs = []
    for part in parts:
        if part:
            name, _, value = part.partition("=")
            pairs.append((_unquoted(name), _unquoted(value)))
    return pairs


def _unquoted(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return unquote_to_bytes(text).decode() if "%" in text else text


def text_of(request: CallbackRequest) -> str:
    """Return the form, or the query without a body. Raises UnicodeDecodeError."""
    return (request.body or request.query.encode(errors="surrogateescape")).decode()


def signed_parameters(request: CallbackRequest) -> list[tuple[str, str]]:
    """Return the parameters that a signature covers. Raises BadSignatureError if they cannot be decoded."""
    try:
        return parameters(request)
    except ValueError:
        raise BadSignatureError("the signature cannot be checked: the parameters are invalid") from None


def raw_of(request: CallbackRequest) -> bytes:
    """Return the parameters as received, without the URL's key, for the quarantine."""
    if request.body:
        return request.body
    query = "&".join(part for part in request.query.split("&") if not part.startswith(f"{KEY}="))
    return query.encode(errors="surrogateescape")


def merged(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return parameters as an object. Repeated names have a list of values."""
    item: dict[str, Any] = {}
    for name, value in pairs:
        if name not in item:
            item[name] = value
        elif isinstance(item[name], list):
            item[name].append(value)
        else:
            item[name] = [item[name], value]
    return item


def filled(item: Mapping[str, Any], texts: Container[str]) -> dict[str, Any]:
    """Return the parameters that have a value. Those in ``texts`` may be empty: a person's message can be."""
    return {name: value for name, value in item.items() if value != "" or name in texts}
