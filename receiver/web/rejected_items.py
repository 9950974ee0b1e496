"""Logs the clients that send items that fail validation: the quarantine keeps what was sent, but no address.

By the address the operator can distinguish a provider that has changed from a stranger with a leaked key, and knows
what to write in ``allowed_networks``.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from receiver.log import OnceAMinute

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.log import Logger

#: Clients, each by project and provider, that are counted apart in a minute; and of these, those that are logged.
MAX_SENDERS: Final = 1000
_MAX_LOGGED: Final = 10


class RejectedItems:
    """Counts rejected items by project, provider and client."""

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds."""
        self._logger = logger
        self._minute = OnceAMinute(clock)
        self._items: Counter[tuple[str, str, str]] = Counter()
        self._others = 0

    def count(self, client: str, project: str, provider: str, items: int) -> None:
        """Count the rejected items of a callback."""
        sender = project, provider, client
        if sender in self._items or len(self._items) < MAX_SENDERS:
            self._items[sender] += items
        else:
            self._others += items

    def report(self) -> None:
        """Log the clients with the most rejected items, at most once a minute. Call it every second."""
        if not self._items or not self._minute.due():
            return
        others = self._items.total() + self._others
        for (project, provider, address), items in self._items.most_common(_MAX_LOGGED):
            others -= items
            self._logger.warning(
                "callback.rejected_items", project=project, provider=provider, address=address, items_count=items
            )
        if others:
            self._logger.warning("callback.more_rejected_items", items_count=others)
        self._items.clear()
        self._others = 0
