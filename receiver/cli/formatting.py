"""Formats events as lines of text: time, type, phone number, and status or message."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.text import Text

from receiver.events import EventType
from receiver.phone_numbers import masked
from receiver.streams.stored_event import decode_event

if TYPE_CHECKING:
    from receiver.streams.stored_event import StoredEvent

#: C1 controls, which terminals interpret as they do C0, and characters that end a line or change text direction.
_CONTROLS: Final = r"\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
#: Zero-width characters are invisible: different texts would look equal.
_UNSAFE: Final = re.compile(rf"[\x00-\x1f{_CONTROLS}\u200b-\u200d\u2060\ufeff]")
#: In JSON, zero-width characters (which join emoji) are kept.
_UNSAFE_IN_JSON: Final = re.compile(rf"[\x00-\x08\x0b\x0c\x0e-\x1f{_CONTROLS}]")
#: White space between values: within a text JSON has it escaped.
_LINE_ENDS: Final = re.compile(r"[\r\n]+")
_WORDS: Final = {
    EventType.SUCCESS: ("delivered", "green"),
    EventType.FAIL: ("failed", "red"),
    EventType.REPLY: ("reply", "cyan"),
    EventType.SENT: ("sent", "blue"),
    EventType.REJECTED: ("rejected", "yellow"),
}
#: Columns below which a shortened text says nothing.
_LEAST_TEXT: Final = 8
_HIDDEN: Final = "[hidden]"


def safe(text: object) -> str:
    """Return a text without terminal controls: senders choose its content."""
    return _UNSAFE.sub(lambda match: "⏎" if match[0] == "\n" else _escaped(match), str(text))


def safe_json(data: bytes) -> str:
    """Return equivalent JSON in one line, without terminal controls."""
    return _UNSAFE_IN_JSON.sub(_escaped, _LINE_ENDS.sub(" ", data.decode(errors="backslashreplace")))


def _escaped(match: re.Match[str]) -> str:
    """Return a character as an escape of JSON."""
    return f"\\u{ord(match[0]):04x}"


def moment(receivedtime: str, *, date: bool) -> str:
    """Return a UTC time of an event in local time."""
    try:
        local = datetime.fromisoformat(receivedtime).astimezone()
    except ValueError:
        return safe(receivedtime)
    return local.strftime("%m-%d %H:%M:%S" if date else "%H:%M:%S")


def elapsed(seconds: float) -> str:
    """Return a duration in its largest unit and the next one: ``2d 3h``, ``13m 32s``, ``4d``, ``0s``."""
    left, parts = max(0, round(seconds)), list[str]()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if parts:
            return " ".join([*parts, f"{count}{unit}"] if count else parts)
        if count:
            parts = [f"{count}{unit}"]
    return parts[0] if parts else "0s"


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return ``1 event``, ``1,500 events``; ``several`` is the plural if it is not ``one`` with an s."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def times(count: int) -> str:
    """Return ``once``, ``5 times``."""
    return "once" if count == 1 else f"{count:,} times"


def _padded(text: str, width: int) -> str:
    """Pad a column."""
    return text + " " * (width - cell_len(text))


class LinePrinter:
    """Formats the ``data`` of entries as lines with aligned columns."""

    def __init__(self, *, mask: bool, date: bool, project: bool, width: int | None) -> None:
        """Choose whether to mask phone numbers and texts, and whether to show date and project.

        Texts are shortened so that a line has ``width`` columns; ids and numbers never are. None: no limit.
        """
        self._width = width
        self._mask = mask
        self._date = date
        self._project = project

    def line(self, data: bytes) -> Text:
        """Return the line of an event, or a note about an entry that is not an event of this service."""
        event = decode_event(data)
        if event is None:
            return Text(f"not an event of this service: {len(data)} bytes", style="yellow")
        word, colour = _WORDS.get(event.type, (safe(event.type), "magenta"))  # type: ignore[call-overload]
        line = Text.assemble(
            (moment(event.receivedtime, date=self._date), "dim"),
            " ",
            (_padded(word, 9), colour),
            f" {safe(event.project)}" if self._project else "",
        )
        ids, text = self._rest(event, colour)
        line.append_text(ids)
        left = None if self._width is None else self._width - line.cell_len
        if left is not None:
            text.truncate(left, overflow="ellipsis")
        return line if left is not None and left < _LEAST_TEXT else line.append_text(text)

    def _rest(self, event: StoredEvent, colour: str) -> tuple[Text, Text]:
        """Return the ids and numbers, which are shown whole, and the text behind them."""
        data = event.data
        if event.type == EventType.REJECTED:
            return Text(), Text(_after_blank("; ".join(map(str, data.get("reasons", [])))))
        whose = self._whose(data)
        if event.type == EventType.REPLY:
            text = _HIDDEN if self._mask else f"“{safe(data.get('reply', ''))}”"
            return Text(whose), Text.assemble(" ", (text, "bold"), _after_blank(data.get("sign")))
        status = _padded(safe(data.get("status_desc", "")), 8)
        ids = Text.assemble(whose, " ", (status, colour), _after_blank(data.get("message_id")))
        return ids, Text(_after_blank(data.get("description")), "dim")

    def _whose(self, data: dict[str, Any]) -> str:
        """Return the number with its country code, as far as the provider sends them, with a blank before each."""
        number = str(data.get("mobile", ""))
        parts = (data.get("nation_code"), masked(number) if self._mask and number else number)
        return "".join(map(_after_blank, parts))


def _after_blank(text: object) -> str:
    """Return a blank and the text, or an empty text where the provider sends none."""
    return f" {safe(text)}" if text else ""
