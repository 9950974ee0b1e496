"""A poison entry is told from a consumer that stands still, and from one that is busy."""

from __future__ import annotations

from receiver.streams.stuck_entries import OldestPending


def seen(*rounds: tuple[float, str, object], everything_read: bool = False) -> float:
    """Return the seconds after rounds, each at a time, with the oldest entry, and what was acknowledged by then."""
    state = None
    for now, entry_id, acknowledged in rounds:
        state = OldestPending.next(state, entry_id, acknowledged, now)
    assert state is not None
    return state.stuck_seconds(rounds[-1][0], everything_read=everything_read)


def test_an_entry_that_others_pass_is_stuck_since_it_was_first_the_oldest():
    assert seen((0, "1-0", 10), (60, "1-0", 11), (120, "1-0", 30)) == 120


def test_a_consumer_that_stands_still_has_no_stuck_entry():
    assert seen((0, "1-0", 10), (60, "1-0", 10), (3600, "1-0", 10)) == 0


def test_a_consumer_that_is_busy_has_no_stuck_entry():
    """The oldest entry is another one each time."""
    assert seen((0, "1-0", 10), (60, "2-0", 11), (120, "3-0", 12)) == 0


def test_a_consumer_that_passed_it_and_then_stood_still_has_no_stuck_entry():
    """The group as a whole is behind then, which is another alert."""
    passed = ((0.0, "1-0", 10), (60.0, "1-0", 11))
    assert seen(*passed, (350, "1-0", 11)) == 350
    assert seen(*passed, (400, "1-0", 11)) == 0


def test_where_nothing_is_left_to_read_the_entry_stays_stuck():
    """At night nothing comes that could pass it."""
    assert seen((0, "1-0", 10), (60, "1-0", 11), (40_000, "1-0", 11), everything_read=True) == 40_000
