"""Phone numbers, whatever their spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.phone_numbers import ANY_COUNTRY, UNKNOWN_COUNTRY, canonical, masked, readings, without_numbers

CHINESE = ("86", "13822220000")


@pytest.mark.parametrize(
    ("nation_code", "mobile", "number"),
    [
        ("86", "13822220000", CHINESE),
        ("86", "8613822220000", CHINESE),
        ("86", "+8613822220000", CHINESE),
        ("86", "008613822220000", CHINESE),
        ("86", "1795113822220000", CHINESE),  # through another carrier
        ("+86", "138-2222-0000", CHINESE),
        ("0086", "13822220000", CHINESE),
        (None, "+86 138 2222 0000", CHINESE),
        (None, "008613822220000", CHINESE),
        (None, "8613822220000", CHINESE),
        ("44", "07911 123456", ("44", "7911123456")),
        ("7", "8 (916) 123-45-67", ("7", "9161234567")),
        ("1", "12125551234", ("1", "2125551234")),
        ("39", "0612345678", ("39", "0612345678")),  # Italy's zero is part of the number
        ("86", "+12125551234", ("1", "2125551234")),  # the number tells more than its nation code
        ("86", "10086", ("86", "10086")),
    ],
)
def test_every_spelling_of_a_number_is_that_number(nation_code: str | None, mobile: str, number: object) -> None:
    assert canonical(nation_code, mobile) == number


@pytest.mark.parametrize(
    ("nation_code", "mobile"),
    [
        (None, "13822220000"),  # of China, or with country code 1: nobody knows
        (None, "85291234567"),
        ("86", "13xxxxxxxxx"),
        ("86", "138xxxx0000"),
        ("86", "138****0000"),
        ("86", "\uff11\uff13\uff18"),
        ("86", ""),
        ("x", "13822220000"),
        ("999", "13822220000"),
        (None, "+999123"),
        (None, "Example"),
        (None, "+"),
        (None, "9" * 64),
    ],
)
def test_what_is_no_number_or_of_an_unknown_country_stays_as_it_is(nation_code: str | None, mobile: str) -> None:
    assert canonical(nation_code, mobile) == (nation_code, mobile)


codes = st.sampled_from(
    [None, "1", "7", "33", "39", "44", "49", "52", "54", "55", "62", "81", "86", "91", "234", "852"]
)


@given(nation_code=codes | st.text(max_size=5), mobile=st.text("0123456789+-() x", max_size=24) | st.text(max_size=8))
def test_a_number_in_canonical_form_is_changed_no_more(nation_code: str | None, mobile: str) -> None:
    number = canonical(nation_code, mobile)
    assert canonical(*number) == number
    assert bool(readings(mobile)) == bool(mobile)


@given(nation_code=codes, mobile=st.from_regex(r"\A[2-9][0-9]{7,9}\Z"))
def test_a_number_is_among_the_readings_of_its_spellings(nation_code: str | None, mobile: str) -> None:
    code, national = canonical(nation_code, mobile)
    assert (national, ANY_COUNTRY) in readings(national)
    whole = f"{code or ''}{national}"
    number = canonical(None, f"+{whole}")
    if number[0] is not None:
        for spelling in (whole, f"+{whole}", f"00{whole}"):
            assert (number[1], int(number[0])) in readings(spelling)


def test_without_a_plus_a_text_may_mean_several_numbers_but_none_twice() -> None:
    assert readings("13822220000") == [
        ("13822220000", ANY_COUNTRY),
        ("3822220000", 1),
        ("3822220000", UNKNOWN_COUNTRY),
    ]
    assert readings("+1 382 222 0000") == [
        ("+1 382 222 0000", UNKNOWN_COUNTRY),
        ("13822220000", UNKNOWN_COUNTRY),
        ("3822220000", 1),
        ("3822220000", UNKNOWN_COUNTRY),
    ]
    assert readings("138xxxx0000") == [("138xxxx0000", UNKNOWN_COUNTRY)]


@pytest.mark.parametrize(
    ("number", "shown"),
    [("13800138000", "138****8000"), ("+8613800138000", "+86****8000"), ("85251188", "85****88"), ("1380013", "****")],
)
def test_a_masked_number_hides_half_of_it_or_four_digits(number: str, shown: str) -> None:
    """A short one would be known by its ends."""
    assert masked(number) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no route to +1 (415) 555-2344.", "no route to +1 ****2344."),
        ("13800138000 is unknown, 13900139000 too", "138****8000 is unknown, 139****9000 too"),
        ("it is written 2015-10-17 08:03:04", "it is written 2015-10-17 08:03:04"),
        ("error 500123 at 12", "error 500123 at 12"),
    ],
)
def test_numbers_within_a_text_are_masked(text: str, shown: str) -> None:
    """In any spelling; times and short codes are none."""
    assert without_numbers(text) == shown
