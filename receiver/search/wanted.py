"""What a person can ask for: a message id, an event id, an entry id, or a phone number in any spelling.

The form of an id does not show which of them it is, so all are compared.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

import msgspec

from receiver.events import EventType
from receiver.phone_numbers import ANY_COUNTRY, canonical, digits_of, readings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.streams.stored_event import StoredEvent

EVENT_ID: Final = re.compile(r"[0-9a-f]{32}")
#: Digits of a phone number. A shorter text is only compared as a whole: too many numbers end so. A longer one is an id:
#: E.164 has at most 15 digits, and two more are dialled in front of them.
_MIN_DIGITS, _MAX_DIGITS = 5, 17
#: Digits that a number must end with to be looked at: all spellings of a number have them in common.
_TAIL: Final = 6
_MOBILE: Final = re.compile(rb'"mobile":"([^"]*)"')
#: A run in an item that may be a phone number.
_NUMBER: Final = re.compile(r"\+?[0-9](?:[ ().\-]?[0-9]){4,24}")


class Wanted:
    """An id or phone number, and whether an event is about it."""

    def __init__(self, text: str) -> None:
        self.text = text
        digits = digits_of(text)
        self.is_number = _MIN_DIGITS <= len(digits) <= _MAX_DIGITS
        self.readings = readings(text)
        #: What the digits of a ``mobile`` end with; empty if the text is not a phone number.
        self.tail = digits[-_TAIL:].encode() if self.is_number else b""
        #: Texts of which an event about it has at least one, unless only its number matches. They lack the quote in
        #: front, which would make Redis compare at each quote.
        self.texts: tuple[bytes, ...] = (_quoted(text)[1:],)
        #: The same for rejected items, which are kept as the provider wrote them. Without texts, any item may match.
        self.texts_of_items: tuple[bytes, ...] = () if self.is_number else tuple(_spellings(text))
        spellings = "|".join(map(re.escape, {text, _quoted(text)[1:-1].decode(), quote_plus(text)}))
        self._token = re.compile(rf"(?<![A-Za-z0-9])(?:{spellings})(?![A-Za-z0-9])")

    def may_be(self, data: bytes) -> bool:
        """Return whether it is worth decoding an entry: False for nearly all that ``matches`` would refuse."""
        if any(text in data for text in self.texts):
            return True
        if b'"sms_rejected_event"' in data:
            return not self.texts_of_items or any(text in data for text in self.texts_of_items)
        mobile = _MOBILE.search(data) if self.tail else None
        return mobile is not None and re.sub(rb"[^0-9]", b"", mobile[1]).endswith(self.tail)

    def matches(self, event: StoredEvent) -> bool:
        """Return whether an event is about it."""
        data = event.data
        if self.text in (event.id, data.get("message_id"), data.get("in_reply_to")):
            return True
        if event.type == EventType.REJECTED:
            return self._is_in_item(_item(data))
        mobile, nation = data.get("mobile"), data.get("nation_code")
        if not isinstance(mobile, str):
            return False
        return mobile == self.text or self._is_number(nation if isinstance(nation, str) else None, mobile)

    def _is_number(self, nation: str | None, mobile: str) -> bool:
        code, national = canonical(nation, mobile)
        country = int(code) if code and re.fullmatch("[1-9][0-9]{0,2}", code) else 0
        return any(national == reading and of in (country, ANY_COUNTRY) for reading, of in self.readings)

    def _is_in_item(self, item: str) -> bool:
        if self._token.search(item):
            return True
        return self.is_number and any(self._is_number(None, found) for found in _NUMBER.findall(item))


def _quoted(text: str) -> bytes:
    """Return a text as the events' encoder writes it."""
    return msgspec.json.encode(text)


def _spellings(text: str) -> Iterator[bytes]:
    """Yield the texts of which a rejected item with this id has one, inside the event's JSON."""
    plain = _quoted(text)[1:-1]
    yield plain
    in_json = _quoted(plain.decode())[1:-1]
    in_form = quote_plus(text).encode()
    yield from {in_json, in_form} - {plain}
    yield b'"item_base64":'  # has to be decoded to know


def _item(data: dict[str, Any]) -> str:
    item = data.get("item")
    if isinstance(item, str):
        return item
    try:
        return base64.b64decode(str(data.get("item_base64", ""))).decode(errors="backslashreplace")
    except binascii.Error:
        return ""
