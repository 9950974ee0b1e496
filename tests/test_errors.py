"""What an answer says of many problems."""

from __future__ import annotations

from receiver.errors import summary


def test_a_summary_is_short() -> None:
    """Ten problems and the number of the others; none of them is longer than a person reads."""
    assert summary([]) == ""
    assert summary(["a", "b"]) == "a; b"
    assert summary(str(number) for number in range(10)) == "0; 1; 2; 3; 4; 5; 6; 7; 8; 9"
    assert summary(str(number) for number in range(12)) == "0; 1; 2; 3; 4; 5; 6; 7; 8; 9; and 2 more"
    assert len(summary("x" * 100_000 for _ in range(1000))) < 6000
