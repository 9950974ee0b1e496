"""The newest items in a project's quarantine, grouped by the reasons of their rejection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from receiver.phone_numbers import without_numbers
from receiver.redis_client import on
from receiver.web.console.tails import decoded, newest

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.streams.paging import StreamEntry

#: Items that are read and grouped, seconds between two reads, and groups that are shown.
MAX_ITEMS: Final = 300
_EVERY: Final = 5.0
_MAX_GROUPS: Final = 20
#: Characters of a reason, and reasons of an item: an item of 10,000 fields may have as many.
_MAX_REASON, _MAX_REASONS = 160, 5
_PLACE: Final = re.compile(r"\[\d+\]")


class Quarantined:
    """Follows a quarantine. Raises the errors of redis-py."""

    def __init__(self, client: Client, stream: str) -> None:
        """``decode_responses`` of the client must be off."""
        self._client = client
        self._stream = stream
        self._next = 0.0
        self._seen: tuple[int, bytes | None] | None = None
        #: What viewers are shown: ``count`` of all items, ``read`` of those that are grouped, and the groups.
        self.figures: dict[str, Any] = {"count": 0, "read": 0, "reasons": []}

    async def refresh(self, now: float) -> None:
        """Group the newest items again, if the quarantine has changed; every few seconds at most."""
        if now < self._next:
            return
        self._next = now + _EVERY
        count: int = await on(self._client, self._stream).xlen(self._stream)
        last, _ = await newest(self._client, self._stream, 1)
        if (count, last[0][0] if last else None) == self._seen:
            return
        items, _ = await newest(self._client, self._stream, MAX_ITEMS)
        self._seen = count, items[0][0] if items else None
        self.figures = {"count": count, "read": len(items), "reasons": _grouped(items)}


def _grouped(items: list[StreamEntry]) -> list[dict[str, Any]]:
    """Return the most frequent reasons. An item with several reasons counts for each."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for _, fields in items:  # newest first
        event = decoded(fields)
        if event is None:
            continue
        for reason in dict.fromkeys(map(_general, event.data.reasons[:_MAX_REASONS])):
            new = {"provider": event.provider, "reason": reason, "count": 0, "newest": event.receivedtime}
            groups.setdefault((event.provider, reason), new)["count"] += 1
    return sorted(groups.values(), key=lambda group: -group["count"])[:_MAX_GROUPS]


def _general(reason: str) -> str:
    """Return a reason without what differs from item to item: places in arrays, and numbers that may be private."""
    return without_numbers(_PLACE.sub("[…]", reason[:_MAX_REASON]))
