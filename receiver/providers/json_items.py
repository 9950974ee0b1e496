"""Splits a body into the JSON texts of its items, so that an invalid item does not affect the others.

The texts are cut out, not decoded and encoded, so that the quarantine gets each item exactly as received.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import msgspec
from marshmallow import ValidationError

#: Nesting that consumers can read: .NET's limit is 64, Ruby's is 100, and the envelope takes three levels. msgspec's
#: own limit depends on the stack, so without this bound a retry could have another result.
MAX_NESTED: Final = 32

_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_SPACE: Final = b" \t\r\n"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: A string, or a structural character. A lone quote starts an unterminated string.
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},]', re.DOTALL)
_CLOSERS: Final = {b"[": b"]", b"{": b"}"}
_CUT: Final = {b"[": "array", b"{": "object"}
_texts: Final = msgspec.json.Decoder(list[msgspec.Raw])


#: Commas per allowed item. An array with more is cut and counted before it is decoded: objects for two million numbers
#: would take 400 MB. A report has seven commas.
_COMMAS_PER_ITEM: Final = 20
#: Tokens of an array, at most: cutting 4 MiB of brackets would take two seconds. A report has 24.
_MAX_TOKENS: Final = 1_000_000
_TOKENS_PER_ITEM: Final = 100


#: Bytes of what items share, in all their copies. A batch of 1,000 recipients with the longest reference has 6 MB.
MAX_COPIED: Final = 16 << 20


class TooManyItemsError(ValueError):
    """The callback has too many items."""


class NotJsonError(ValueError):
    """The body is invalid JSON, or neither an array nor an object. The message says what is wrong and where."""


def bound(count: int, max_items: int) -> None:
    """Raise TooManyItemsError if ``count`` exceeds ``max_items``."""
    if count > max_items:
        raise TooManyItemsError(f"more than {max_items} items in one callback (RECEIVER_MAX_ITEMS)")


class Copies:
    """Bounds the items of one callback that are made by copying what they share.

    The copies grow with the square of the body: 21 kB, of which half are recipients, would become 8 MB.
    """

    def __init__(self, max_items: int, max_bytes: int = MAX_COPIED) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items = 0
        self._bytes = 0

    def add(self, items: int) -> None:
        """Count items. Raises TooManyItemsError beyond the bound."""
        self._items += items
        bound(self._items, self._max_items)

    def share(self, times: int, size: int) -> None:
        """Count ``size`` bytes that are copied so many times. Raises TooManyItemsError beyond the bound."""
        self._bytes += times * size
        if self._bytes > self._max_bytes:
            raise TooManyItemsError(f"the recipients with what they share make more than {self._max_bytes} bytes")


def split(body: bytes, max_items: int) -> list[tuple[str, bytes]]:
    """Return the place (``[3]``, or an empty text for a single object) and the JSON text of each item.

    Errors inside an item are left to ``decode_item``. Raises NotJsonError if the items cannot be separated, and
    TooManyItemsError.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK).strip(_SPACE)
    if text[:1] == b"{":
        return [("", text)]
    if text[:1] != b"[":
        raise NotJsonError(_neither(text))
    if text.count(b",") > _COMMAS_PER_ITEM * max_items:
        items = _cut(text, max_items)
    else:
        try:
            items = [bytes(raw) for raw in _texts.decode(text)]
        except (msgspec.MsgspecError, RecursionError):
            items = _cut(text, max_items)
    bound(len(items), max_items)
    return [(f"[{index}]", item) for index, item in enumerate(items)]


def member(body: bytes, name: str, max_members: int) -> bytes | None:
    """Return the JSON text of a member; None if the body is not an object, or has no such member.

    Raises NotJsonError if the members cannot be separated, and TooManyItemsError.
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
    """Decode one item's text. Raises marshmallow.ValidationError with the reason if it is invalid."""
    try:
        raw.decode()
        return msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        raise ValidationError(f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from None
    except RecursionError:
        raise ValidationError(f"nested too deeply: more than {MAX_NESTED} levels") from None
    except msgspec.MsgspecError as error:
        if _LONE_SURROGATE.search(raw):
            raise ValidationError("invalid Unicode: an unpaired surrogate") from None
        raise ValidationError(f"not JSON that can be read: {error}") from None


def bound_nesting(value: Any, field: str = "_schema") -> None:  # noqa: ANN401 any JSON
    """Raise marshmallow.ValidationError, about this field, if a value is nested deeper than MAX_NESTED."""
    level = [value]
    for _ in range(MAX_NESTED + 1):
        nested = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for one in nested for inner in one]
        if not nested:
            return
    raise ValidationError(f"nested too deeply: more than {MAX_NESTED} levels", field)


def _neither(text: bytes) -> str:
    """Return the reason for a body that is neither an array nor an object."""
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"not JSON: {error}" if text else "not JSON: the body is empty"
    return "expected an array or an object"


def _cut(text: bytes, max_items: int) -> list[bytes]:
    """Cut an array or object at its top-level commas, whatever its items contain.

    The decoder rejects a whole array if one item has an unpaired surrogate, a line break in a string, NaN, or more
    nesting than its stack allows.
    """
    items: list[bytes] = []
    closers: list[bytes] = []
    begin = 1
    max_tokens = max(_MAX_TOKENS, _TOKENS_PER_ITEM * max_items)
    for count, token in enumerate(_TOKENS.finditer(text)):
        if count > max_tokens:
            raise TooManyItemsError(f"too many brackets and commas for {max_items} items (RECEIVER_MAX_ITEMS)")
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


def _whole(items: list[bytes], rest: bytes, container: str) -> list[bytes]:
    if rest:
        raise NotJsonError(f"not JSON: extra data after the {container}")
    if b"" in items:
        raise NotJsonError(f"not JSON: [{items.index(b'')}] is empty")
    return items
