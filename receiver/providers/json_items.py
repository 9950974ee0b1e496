"""A callback's body, cut into the JSON texts of its items, so that a bad item harms no other.

The texts are cut, not decoded: what goes to the quarantine is the item exactly as it was received.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import msgspec
from marshmallow import ValidationError

#: Arrays and objects in one another that consumers can be expected to read: .NET's limit is 64, Ruby's 100, and the
#: envelope takes three. What msgspec can read depends on the stack: without a bound a retry might fare differently.
MAX_NESTED: Final = 32

_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_SPACE: Final = b" \t\r\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: A string, or a character that matters outside of strings. A quote by itself begins a string without an end.
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
_CLOSERS: Final = {b"[": b"]", b"{": b"}"}
_CUT: Final = {b"[": "array", b"{": "object"}
_texts: Final = msgspec.json.Decoder(list[msgspec.Raw])


#: Commas for each item that may be, from which on an array is not decoded before its items are counted: the objects
#: for two million numbers would take 400 MB. A report has seven commas.
_COMMAS_AN_ITEM: Final = 20
#: Tokens up to which an array is cut: 4 MiB of brackets would take two seconds. A report has 24.
_MAX_TOKENS: Final = 1_000_000
_TOKENS_AN_ITEM: Final = 100


class TooManyItemsError(ValueError):
    """The callback has more items than one callback may have."""


class NotJsonError(ValueError):
    """The body as a whole is not JSON, or neither an array nor an object. The message says what and where."""


def bound(count: int, max_items: int) -> None:
    """Raise TooManyItemsError for more items than there may be."""
    if count > max_items:
        raise TooManyItemsError(f"more than {max_items} items in one callback (RECEIVER_MAX_ITEMS)")


def split(body: bytes, max_items: int) -> list[tuple[str, bytes]]:
    """Return the place (``[3]``, or nothing for a single object) and the text of every item.

    What is wrong inside an item is left to ``decode_item``. Raises NotJsonError when the items cannot be told apart,
    and TooManyItemsError.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK).strip(_SPACE)
    if text[:1] == b"{":
        return [("", text)]
    if text[:1] != b"[":
        raise NotJsonError(_neither(text))
    if text.count(b",") > _COMMAS_AN_ITEM * max_items:
        items = _cut(text, max_items)
    else:
        try:
            items = [bytes(raw) for raw in _texts.decode(text)]
        except (msgspec.MsgspecError, RecursionError):
            items = _cut(text, max_items)
    bound(len(items), max_items)
    return [(f"[{index}]", item) for index, item in enumerate(items)]


def member(body: bytes, name: str, max_members: int) -> bytes | None:
    """Return the text of a member of an object; None if the body is no object, or an object without it.

    Raises NotJsonError when the members cannot be told apart, and TooManyItemsError.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK).strip(_SPACE)
    if text[:1] != b"{":
        return None
    try:
        value = _member_decoder(name).decode(text).value
    except (msgspec.MsgspecError, RecursionError):
        begin = re.compile(rb'"%b"[ \t\r\n]*:' % re.escape(name.encode()))
        found = [part[match.end() :] for part in _cut(text, max_members) if (match := begin.match(part))]
        return found[-1].strip(_SPACE) if found else None
    return None if value is msgspec.UNSET else bytes(value)


@cache
def _member_decoder(name: str) -> msgspec.json.Decoder[Any]:
    field = ("value", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)
    return msgspec.json.Decoder(msgspec.defstruct("Member", [field], rename={"value": name}))


def decode_item(raw: bytes) -> Any:  # noqa: ANN401 any JSON
    """Decode one item's text. Raises marshmallow.ValidationError with the reason when there is no value in it."""
    try:
        raw.decode()
        return msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise ValidationError(f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from None
    except RecursionError:
        raise ValidationError(f"nested too deeply: more than {MAX_NESTED} levels") from None
    except msgspec.MsgspecError as error:
        if _LONE_SURROGATE.search(raw):
            raise ValidationError("not Unicode: it holds half of a surrogate pair") from None
        raise ValidationError(f"not JSON that can be read: {error}") from None


def bound_nesting(value: Any, field: str = "_schema") -> None:  # noqa: ANN401 any JSON
    """Raise marshmallow.ValidationError, about this field, when a value is nested more than MAX_NESTED deep."""
    level = [value]
    for _ in range(MAX_NESTED + 1):
        nested = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for one in nested for inner in one]
        if not nested:
            return
    raise ValidationError(f"nested too deeply: more than {MAX_NESTED} levels", field)


def _neither(text: bytes) -> str:
    """Say what a body is that is neither an array nor an object."""
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"not JSON: {error}" if text else "not JSON: the body is empty"
    return "expected an array or an object"


def _cut(text: bytes, max_items: int) -> list[bytes]:
    """Cut an array or object at the commas that are in no string, array or object, whatever its items hold.

    The decoder gives up an array as a whole when one item holds half of a surrogate pair, a line break in a text, NaN,
    or more arrays in one another than its stack allows.
    """
    items: list[bytes] = []
    closers: list[bytes] = []
    begin = 1
    most = max(_MAX_TOKENS, _TOKENS_AN_ITEM * max_items)
    for count, token in enumerate(_TOKENS.finditer(text)):
        if count > most:
            raise TooManyItemsError(f"more brackets and commas than {max_items} items have (RECEIVER_MAX_ITEMS)")
        mark, at = token[0], token.start()
        if mark in _CLOSERS:
            closers.append(_CLOSERS[mark])
        elif mark == b"," and len(closers) == 1:
            items.append(text[begin:at].strip(_SPACE))
            bound(len(items), max_items)
            begin = at + 1
        elif mark == b'"':
            raise NotJsonError(f"not JSON: the string at offset {at} has no end")
        elif mark in (b"]", b"}"):
            if closers.pop() != mark:
                raise NotJsonError(f"not JSON: unexpected {mark.decode()} at offset {at}")
            if not closers:
                return _whole([*items, text[begin:at].strip(_SPACE)], text[at + 1 :], _CUT[text[:1]])
    raise NotJsonError(f"not JSON: the {_CUT[text[:1]]} has no end")


def _whole(items: list[bytes], rest: bytes, kind: str) -> list[bytes]:
    if rest:
        raise NotJsonError(f"not JSON: something follows the {kind}")
    if b"" in items:
        raise NotJsonError(f"not JSON: nothing stands where [{items.index(b'')}] should be")
    return items
