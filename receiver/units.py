"""Sizes and durations with units, as written in settings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from marshmallow import ValidationError, fields

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE: Final = re.compile(r"(\d+) *([KMGT]?)(?:i?B)?", re.IGNORECASE)

_SECONDS: Final = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DECIMAL: Final = re.compile(r"(\d+\.\d+) *(ms|[smhdw]?)")
#: Whole numbers with units, the largest unit first: ``1h 30m``.
_UNITS_OF_TIME: Final = {
    "weeks": "w",
    "days": "d",
    "hours": "h",
    "minutes": "m",
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "[µu]s",
}
_WHOLE: Final = re.compile("".join(rf"(?:(?P<{name}>-?\d+)\s*{unit}\s*)?" for name, unit in _UNITS_OF_TIME.items()))


class Size(fields.Integer):
    """A number of bytes: ``4194304``, ``4MiB``, ``10GiB``. K, M, G and T count in powers of 1024."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:  # noqa: ANN401, ARG002 marshmallow's
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            raise ValidationError(f"{value!r} is not a size; write bytes or a unit, as in 64MiB.")
        return int(match[1]) * _UNITS[match[2].upper()]


class Seconds(fields.TimeDelta):
    """A duration in seconds: ``500ms``, ``1.2s``, ``1h 30m``, ``7d``; a bare number counts seconds."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:  # type: ignore[override]  # noqa: ANN401 marshmallow's
        text = str(value).strip()
        if (decimal := _DECIMAL.fullmatch(text)) is not None:
            return float(decimal[1]) * _SECONDS[decimal[2]]
        try:
            if text and (whole := _WHOLE.fullmatch(text)) is not None:
                return timedelta(**{name: int(count) for name, count in whole.groupdict("0").items()}).total_seconds()
            return super()._deserialize(value, attr, data, **kwargs).total_seconds()
        except (ValidationError, OverflowError):
            raise ValidationError(f"{value!r} is not a duration; write 500ms, 2s, 72h or 7d.") from None


def duration(seconds: float) -> str:
    """Return a duration as text in the largest unit that gives a whole number: ``7 days``."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = round(seconds / length)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{seconds:g} seconds"
