"""Normalises phone numbers of any spelling.

A number is a country calling code and a national number (E.164, https://www.itu.int/rec/T-REC-E.164). Google's
libphonenumber knows both, and the trunk prefixes: https://github.com/daviddrysdale/python-phonenumbers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, NumberParseException, PhoneMetadata

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Country codes of an interpretation without one: any country, or a number whose country is unknown.
ANY_COUNTRY: Final = -1
UNKNOWN_COUNTRY: Final = 0

_REGIONS: Final = {str(code): regions[0] for code, regions in COUNTRY_CODE_TO_REGION_CODE.items()}
#: Characters of a number. Letters are excluded: libphonenumber would read "138xxxx0000" as a vanity number.
_DIALABLE: Final = re.compile(r"\+?[0-9 ().\-]+")
_NOT_DIGITS: Final = re.compile(r"[^0-9]+")
#: Digits of a national mobile number, at most, in nearly all countries. Longer numbers start with a country code.
_MAX_NATIONAL_DIGITS: Final = 11
_CACHED: Final = 4096
#: What may be a number in a text: seven digits or more, with what people write between them. Dates are none.
_IN_TEXT: Final = re.compile(r"(?<!\d)(?!\d{4}-\d\d-\d\d(?!\d))\+?\d(?:[ ().\-]{0,2}\d){6,}")
_MASK: Final = "****"
#: Digits of a number that stay at its ends, by its length: at least four are hidden, and half of a short number.
_SHOWN: Final = ((11, 3, 4), (8, 2, 2))


def canonical(nation_code: str | None, mobile: str) -> tuple[str | None, str]:
    """Return country code and national number separately. Never raises.

    Text that is not a phone number is returned unchanged. Without ``nation_code``, the country code is taken from the
    number if it starts with ``+`` or ``00``, or has more digits than a national number.
    """
    plain = _plain_national(nation_code) if nation_code else None
    if plain is not None and plain.fullmatch(mobile):
        return nation_code, mobile
    return _parsed(nation_code or None, mobile)


def readings(text: str) -> list[tuple[str, int]]:
    """Return each number that a text can mean: national number and country code.

    ``13822220000`` is a number of any country, and also 3822220000 of country 1; ``+13822220000`` is only the latter.
    A number of unknown country may be either.
    """
    return list(dict.fromkeys(_readings(text)))


def masked(number: str) -> str:
    """Return ``138****8000`` for ``13800138000``, ``85****88`` for ``85251188``, and ``****`` for a shorter text."""
    for length, first, last in _SHOWN:
        if len(number) >= length:
            return f"{number[:first]}{_MASK}{number[-last:]}"
    return _MASK


def without_numbers(text: str) -> str:
    """Return a text with all that may be a phone number masked."""
    return _IN_TEXT.sub(lambda match: masked(match[0]), text)


def digits_of(text: str) -> str:
    """Return the digits of a text that may be a phone number; empty for any other text."""
    return _digits(text) if _DIALABLE.fullmatch(text) else ""


def _readings(text: str) -> Iterator[tuple[str, int]]:
    digits = digits_of(text)
    if digits != text:
        yield text, UNKNOWN_COUNTRY
    if not digits:
        return
    international = _international(text)
    yield international or digits, ANY_COUNTRY if international is None else UNKNOWN_COUNTRY
    number = _parse(f"+{international or digits}")
    if number is not None:
        national = phonenumbers.national_significant_number(number)
        yield national, number.country_code or UNKNOWN_COUNTRY
        yield national, UNKNOWN_COUNTRY


@lru_cache(maxsize=512)
def _plain_national(nation_code: str) -> re.Pattern[str] | None:
    """Return a pattern of national numbers that libphonenumber would not change. Matching it is 50 times faster."""
    region = _REGIONS.get(nation_code)
    if region is None:
        return None
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(int(nation_code), region)
    trunk = metadata.national_prefix_for_parsing if metadata is not None else None
    return re.compile(rf"(?!{f'{trunk}|' if trunk else ''}0|{nation_code})[0-9]+")


@lru_cache(maxsize=_CACHED)
def _parsed(nation_code: str | None, mobile: str) -> tuple[str | None, str]:
    if not _DIALABLE.fullmatch(mobile):
        return nation_code, mobile
    number = _number(nation_code, mobile)
    if number is None:
        return nation_code, mobile
    return str(number.country_code), phonenumbers.national_significant_number(number)


def _number(nation_code: str | None, mobile: str) -> phonenumbers.PhoneNumber | None:
    international = _international(mobile)
    if international is not None:
        return _parse(f"+{international}")
    if nation_code is not None:
        return _parse(mobile, _REGIONS.get(nation_code.lstrip("+0 ").rstrip()))
    digits = _digits(mobile)
    if len(digits) <= _MAX_NATIONAL_DIGITS:
        return None
    number = _parse(f"+{digits}")
    return number if number is not None and phonenumbers.is_valid_number(number) else None


def _parse(text: str, region: str | None = None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(text, region)
    except NumberParseException:
        return None


def _international(text: str) -> str | None:
    """Return the digits after ``+`` or ``00``; None without such a prefix."""
    digits = _digits(text)
    if text.startswith("+"):
        return digits
    return digits[2:] if digits.startswith("00") else None


def _digits(text: str) -> str:
    return _NOT_DIGITS.sub("", text)
