"""A position in a stream, as ``receiver replay`` takes it: by a time or an entry's id."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

import click
from marshmallow import ValidationError

from receiver.streams.entry_ids import ENTRY_ID
from receiver.units import Seconds

_START: Final = "start"


class Position(NamedTuple):
    """A position in a stream: the id of an entry, a time in milliseconds since the epoch, or seconds before now."""

    entry_id: str | None = None
    at_ms: int | None = None
    ago: float | None = None

    def first(self, now_ms: int) -> str:
        """Return the id of the first entry there. ``now_ms`` is the time of Redis' clock."""
        return self.entry_id or f"{self._ms(now_ms)}-0"

    def last(self, now_ms: int) -> str:
        """Return the id of the last entry there."""
        return self.entry_id or f"{self._ms(now_ms)}"

    def _ms(self, now_ms: int) -> int:
        return self.at_ms if self.at_ms is not None else max(0, now_ms - int((self.ago or 0) * 1000))


NOW: Final = Position(ago=0)


class PositionType(click.ParamType[Position]):
    """``2026-11-25T08:00`` (local time unless it has a zone), ``24h`` (ago), an entry's id, or ``start``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Position:  # noqa: ANN401 click's
        """Return the position."""
        if isinstance(value, Position):
            return value
        if value == _START:
            return Position(at_ms=0)
        if ENTRY_ID.fullmatch(value):
            return Position(entry_id=value)
        try:
            return Position(ago=Seconds().deserialize(value))
        except ValidationError:
            pass
        try:
            return Position(at_ms=max(0, int(datetime.fromisoformat(value).astimezone().timestamp() * 1000)))
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time; write 24h (ago), 2026-11-25T08:00 (local time), 2026-11-25T08:00Z, an "
                "entry's id, or start.",
                param,
                ctx,
            )
