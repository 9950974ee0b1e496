"""Fields that several providers share: times in their many forms, codes, and numbers with a country code.

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

#: The zone of Chinese providers that write times without one.
BEIJING: Final = timezone(timedelta(hours=8))
#: 9999-12-31T23:59:59Z, the last moment whose year has four digits.
LAST_SECOND: Final = 253402300799
_LONGEST_CODE: Final = 3
#: More segments than any message has.
_MOST_SEGMENTS: Final = 10_000
#: The part of a number that is left when the country code is cut off has at least so many digits.
_SHORTEST_NUMBER: Final = 4


class UtcTime(fields.Field[str]):
    """A time in one form of a provider, as UTC text.

    ``parse`` turns the value into a moment; it raises ValueError, TypeError or OverflowError for a value of another
    form. ``written`` shows the form in the error message.
    """

    #: The value depends on the text alone, so the fast decoder may remember it.
    pure = True

    def __init__(self, parse: Callable[[Any], datetime], written: str, **kwargs: Any) -> None:  # noqa: ANN401 marshmallow's
        """Take the parser, and an example of the form."""
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
    """A text that some write as a number, a code for example: always as text."""

    #: As for times.
    pure = True

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401, ARG002 marshmallow's
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValidationError("Not a text or a whole number.")
        return str(value)


def segments() -> fields.Integer:
    """Return a field for the number of a message's segments, which some write as a text."""
    return fields.Integer(allow_none=True, validate=validate.Range(0, _MOST_SEGMENTS))


def any_json(**kwargs: Any) -> fields.Raw:  # noqa: ANN401 marshmallow's
    """Return a field that is kept as it is, unless it is nested too deeply."""
    return fields.Raw(allow_none=True, validate=bound_nesting, **kwargs)


def text_form(form: str, zone: timezone = UTC) -> Callable[[Any], datetime]:
    """Return a parser of ``strptime``'s form; times without a zone are in ``zone``."""

    def parse(value: Any) -> datetime:  # noqa: ANN401 any JSON
        moment = datetime.strptime(value, form)  # noqa: DTZ007 the zone follows
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)

    return parse


def iso_form(value: Any) -> datetime:  # noqa: ANN401 any JSON
    """Parse ISO 8601, offsets with and without a colon; without an offset it is UTC."""
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unix_form(divisor: int = 1) -> Callable[[Any], datetime]:
    """Return a parser of Unix time, a number or its digits; 1000 for milliseconds."""

    def parse(value: Any) -> datetime:  # noqa: ANN401 any JSON
        if isinstance(value, bool):
            raise TypeError("not a number")
        return datetime.fromtimestamp(int(value) // divisor, UTC)

    return parse


def nation_code(number: str, *, plus: bool = True) -> str | None:
    """Return the country code of a number in E.164, ``86`` for ``+8613800138000``; None for any other text.

    ``plus`` False is for providers that write the digits of E.164 without the plus. Country codes are prefix-free, so
    the first that fits is the one.
    """
    digits = number[1:] if number.startswith("+") else "" if plus else number
    if not digits.isascii() or not digits.isdigit():
        return None
    for length in range(1, _LONGEST_CODE + 1):
        if len(digits) >= length + _SHORTEST_NUMBER and int(digits[:length]) in COUNTRY_CODE_TO_REGION_CODE:
            return digits[:length] if digits[0] != "0" else None
    return None
