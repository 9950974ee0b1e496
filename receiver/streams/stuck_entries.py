"""Tells a poison entry from a consumer that stands still: the group acknowledges later entries, and this one stays."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Seconds without an acknowledgement after which a group with unread entries stands still as a whole.
_STANDS_STILL: Final = 300.0


class OldestPending(NamedTuple):
    """The oldest entry that a group has read and not acknowledged. Times are in seconds, of Redis' clock."""

    entry_id: str
    since: float
    #: Changes whenever the group acknowledges an entry; see ``next``.
    acknowledged: object
    #: When another entry was acknowledged last; None if none was since ``since``.
    passed_at: float | None = None

    @classmethod
    def next(cls, before: OldestPending | None, entry_id: str, acknowledged: object, now: float) -> OldestPending:
        """Return the state of a round, given that of the round before, if there was one.

        ``acknowledged`` is compared with that of the round before: any change is an acknowledgement.
        """
        if before is None or before.entry_id != entry_id:
            return cls(entry_id, now, acknowledged)
        passed_at = before.passed_at if before.acknowledged == acknowledged else now
        return cls(entry_id, before.since, acknowledged, passed_at)

    def stuck_seconds(self, now: float, *, everything_read: bool) -> float:
        """Return for how long others have passed this entry; 0 if none has, or if the group stands still by now."""
        if self.passed_at is None or (now - self.passed_at > _STANDS_STILL and not everything_read):
            return 0.0
        return now - self.since
