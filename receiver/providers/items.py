"""A callback's body, cut into the JSON texts of its items, so that a bad item harms no other.

The texts are cut, not decoded: what goes to the quarantine is the item exactly as it was received.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import msgspec
from marshmallow import ValidationError

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_texts: Final = msgspec.json.Decoder(list[msgspec.Raw])


#: Arrays and objects in one another that consumers can be expected to read: .NET's limit is 64, Ruby's 100, and the
#: envelope takes three. What msgspec can read depends on the stack: without a bound a retry might fare differently.
MOST_NESTED: Final = 32


class NotJsonError(ValueError):
    """The body as a whole is not JSON, or neither an array nor an object. The message says what and where."""


def split(body: bytes) -> list[tuple[str, bytes]]:
    """Return the place (``[3]``, or nothing for a single object) and the text of every item.

    Raises NotJsonError.
    """
    text = body.strip(b" \t\r\n")
    if text[:1] == b"{":
        _check(text)
        return [("", text)]
    if text[:1] != b"[":
        _check(text)
        raise NotJsonError("expected an array of status reports or one reply object")
    try:
        items = [bytes(raw) for raw in _texts.decode(body)]
    except (msgspec.MsgspecError, RecursionError):
        items = _cut(_decoded(text))
    return [(f"[{index}]", item) for index, item in enumerate(items)]


def decode_item(raw: bytes) -> Any:  # noqa: ANN401 any JSON
    """Decode one item's text. Raises marshmallow.ValidationError with the reason when there is no value in it."""
    try:
        raw.decode()
        return msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise ValidationError(f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from None
    except RecursionError:
        raise ValidationError("nested too deeply") from None
    except msgspec.MsgspecError as error:
        if _SURROGATE.search(raw):
            raise ValidationError("not Unicode: it holds half of a surrogate pair") from None
        raise ValidationError(f"not JSON that can be stored: {error}") from None


def bound_nesting(value: Any, field: str = "_schema") -> None:  # noqa: ANN401 any JSON
    """Raise marshmallow.ValidationError, about this field, when a value is nested more than MOST_NESTED deep."""
    level = [value]
    for _ in range(MOST_NESTED + 1):
        nested = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for one in nested for inner in one]
        if not nested:
            return
    raise ValidationError(f"nested too deeply: more than {MOST_NESTED} levels", field)


def _check(text: bytes) -> None:
    """Raise NotJsonError unless the text can be told to be JSON; an item's own faults are left to decode_item."""
    if not text:
        raise NotJsonError("not JSON: the body is empty")
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        decoded = _decoded(text)
        end = _scan(decoded, 0)
        if end != len(decoded):
            raise NotJsonError(f"not JSON: something follows the value: char {end}") from None


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise NotJsonError(f"not JSON in UTF-8: byte {text[error.start]:#04x} at offset {error.start}") from None


def _refuse(constant: str) -> NoReturn:
    raise NotJsonError(f"not JSON: {constant} is not a JSON value")


# The standard library's scanner takes what msgspec refuses in the middle of an array, lone surrogates above all.
_scanner: Final = json.JSONDecoder(parse_constant=_refuse)


def _scan(text: str, at: int) -> int:
    """Return where the JSON value that begins at ``at`` ends."""
    try:
        return _scanner.raw_decode(text, at)[1]
    except NotJsonError:
        raise
    except json.JSONDecodeError as error:
        raise NotJsonError(f"not JSON: {error}") from None
    except RecursionError:
        raise NotJsonError("not JSON that can be read: nested too deeply") from None
    except ValueError as error:  # an integer with more digits than Python converts
        raise NotJsonError(f"not JSON that can be read: {error}") from None


def _cut(text: str) -> list[bytes]:
    """Cut an array into the texts of its elements."""
    items: list[bytes] = []
    at = _skip(text, 1)
    if text[at : at + 1] == "]":
        return _end(text, at, items)
    while True:
        end = _scan(text, at)
        items.append(text[at:end].encode())
        at = _skip(text, end)
        if text[at : at + 1] != ",":
            return _end(text, at, items)
        at = _skip(text, at + 1)


def _end(text: str, at: int, items: list[bytes]) -> list[bytes]:
    if text[at : at + 1] != "]" or _skip(text, at + 1) != len(text):
        raise NotJsonError(f"not JSON: expected ',' or the end of the array: char {at}")
    return items


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
