"""Fields shared by providers: times in various formats, codes, and numbers with a country code.

Every time becomes UTC text in whole seconds, ``2015-10-17T00:03:04Z``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from marshmallow import ValidationError, fields, validate
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from receiver.events import utc
from receiver.providers.json_items import bound_nesting

if TYPE_CHECKING:
    from collections.abc import Callable

#: The zone of times without one from Chinese providers.
BEIJING: Final = timezone(timedelta(hours=8))
#: 9999-12-31T23:59:59Z, the last moment whose year has four digits.
LAST_SECOND: Final = 253402300799
_MAX_CODE_DIGITS: Final = 3
#: A bound above the segments of any message.
_MAX_SEGMENTS: Final = 10_000
#: Minimum digits of a number after its country code.
_MIN_NATIONAL_DIGITS: Final = 4


class UtcTime(fields.Field[str]):
    """A time in a provider's format, loaded as UTC text.

    ``parse`` returns a datetime. It raises ValueError, TypeError or OverflowError for a value in another format.
    ``written`` is an example of the format for the error message.
    """

    #: The loaded value depends only on the input, so the fast decoder may cache it.
    pure = True

    def __init__(self, parse: Callable[[Any], datetime], written: str, **kwargs: Any) -> None:  # noqa: ANN401 marshmallow's
        super().__init__(**kwargs)
        self._parse = parse
        self._written = written

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401, ARG002 marshmallow's
        try:
            seconds = int(self._parse(value).timestamp())
        except (ValueError, TypeError, OverflowError, OSError):
            raise ValidationError(f"Not a valid time; it is written {self._written}.") from None
        if not 0 <= seconds <= LAST_SECOND:
            raise ValidationError("Not a valid time: it is before 1970 or after 9999.")
        return utc(seconds)


class Label(fields.Field[str]):
    """A text that some providers send as a number, for example a code. Loaded as text."""

    #: As in UtcTime.
    pure = True

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401, ARG002 marshmallow's
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValidationError("Not a text or a whole number.")
        return str(value)


def segments() -> fields.Integer:
    """Return a field for the number of a message's segments, an integer or its digits."""
    return fields.Integer(allow_none=True, validate=validate.Range(0, _MAX_SEGMENTS))


def any_json(**kwargs: Any) -> fields.Raw:  # noqa: ANN401 marshmallow's
    """Return a field for any JSON that is not nested too deeply."""
    return fields.Raw(allow_none=True, validate=bound_nesting, **kwargs)


def text_form(form: str, zone: timezone = UTC) -> Callable[[Any], datetime]:
    """Return a parser for a ``strptime`` format. Times without a zone are in ``zone``."""

    def parse(value: Any) -> datetime:  # noqa: ANN401 any JSON
        moment = datetime.strptime(value, form)  # noqa: DTZ007 the zone follows
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)

    return parse


def iso_form(value: Any) -> datetime:  # noqa: ANN401 any JSON
    """Parse ISO 8601. Offsets may lack the colon; without an offset it is UTC."""
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unix_form(divisor: int = 1) -> Callable[[Any], datetime]:
    """Return a parser for Unix time, a number or its digits. ``divisor`` is 1000 for milliseconds."""

    def parse(value: Any) -> datetime:  # noqa: ANN401 any JSON
        if isinstance(value, bool):
            raise TypeError("not a number")
        return datetime.fromtimestamp(int(value) // divisor, UTC)

    return parse


def nation_code(number: str, *, plus: bool = True) -> str | None:
    """Return the country code of a number in E.164, ``86`` for ``+8613800138000``; None for any other text.

    ``plus`` is False for providers that omit the plus. Country codes are prefix-free, so the first match is right.
    """
    digits = number[1:] if number.startswith("+") else "" if plus else number
    if not digits.isascii() or not digits.isdigit():
        return None
    for length in range(1, _MAX_CODE_DIGITS + 1):
        if len(digits) >= length + _MIN_NATIONAL_DIGITS and int(digits[:length]) in COUNTRY_CODE_TO_REGION_CODE:
            return digits[:length] if digits[0] != "0" else None
    return None
