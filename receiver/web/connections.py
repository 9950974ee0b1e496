"""The bound on open connections, so that connections that do nothing never keep callbacks out.

At the bound, a new connection takes the place of one that waits for its client. First to go is one that has not sent a
request within a second. If there is none, the one that has waited for longest goes: it has not sent a request yet, is
idle between two, or its client is slow to send a body or to read an answer. Only if all are at work is the new one
refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from receiver import metrics
from receiver.descriptors import exhausted
from receiver.log import OnceAMinute

if TYPE_CHECKING:
    from receiver.log import Logger

#: Seconds in which a client should have sent its first request. Then no connection that waits is better to close.
_GRACE: Final = 1.0
#: How far the bound may be passed when no connection can be closed, as a share and as a number: a request that is being
#: handed over looks as if it were at work.
_SLACK, _MAX_SLACK = 0.05, 50
#: Connections that are looked at to find an idle one: the choice is as good as the oldest of all, at a fixed cost.
_SAMPLE: Final = 16


class Client(Protocol):
    """A connection of a client, as far as it matters here."""

    @property
    def silent(self) -> bool:
        """Whether it has never sent a whole head of a request."""

    @property
    def idle(self) -> bool:
        """Whether it waits for the next request."""

    @property
    def stalled(self) -> bool:
        """Whether its request waits for the client, to send the body or to read the answer."""

    @property
    def waiting_since(self) -> float:
        """When it answered last, or was opened, on the event loop's clock."""

    def drop(self) -> None:
        """Close it at once."""


class Connections:
    """Knows the open connections, and makes room at the bound."""

    def __init__(self, limit: int, logger: Logger) -> None:
        self._limit = limit
        self._hard_limit = limit + 1 + min(int(limit * _SLACK), _MAX_SLACK)
        self._logger = logger
        #: In the order in which they were opened. They move on when they are looked at, not when they send a request:
        #: requests cost nothing here.
        self._new: OrderedDict[Client, None] = OrderedDict()
        #: Those that have sent a request, in the order in which they were looked at.
        self._known: OrderedDict[Client, None] = OrderedDict()
        self._shed: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._full = OnceAMinute()
        self._no_descriptors = OnceAMinute()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._new) + len(self._known)

    def admit(self, connection: Client) -> bool:
        """Take a new connection in, if need be in the place of another; False if there is no room for it."""
        while len(self) >= self._limit and self._make_room():
            pass
        if len(self) >= self._hard_limit:
            self._shed["refused"] += 1
            return False
        self._new[connection] = None
        return True

    def remove(self, connection: Client) -> None:
        """Forget a connection that is closed."""
        self._new.pop(connection, None)
        self._known.pop(connection, None)

    def report(self) -> None:
        """Set the metrics, and log what is wrong, at most once a minute. Call it every second."""
        metrics.CONNECTIONS.set(len(self))
        for reason, count in self._shed.items():
            metrics.SHED_CONNECTIONS.labels(reason).inc(count)
        self._unreported += self._shed
        self._shed.clear()
        if self._unreported and self._full.due():
            counts = {f"{reason}_count": count for reason, count in self._unreported.items()}
            self._logger.warning("connections.full", limit=self._limit, **counts)
            self._unreported.clear()
        error = exhausted()
        if error is not None and self._no_descriptors.due():
            self._logger.error("descriptors.exhausted", error=error, connections=len(self))

    def _make_room(self) -> bool:
        chosen = self._oldest_silent()
        if chosen is None or asyncio.get_running_loop().time() - chosen.waiting_since < _GRACE:
            waiting = [one for one in (chosen, self._longest_waiting()) if one is not None]
            if not waiting:
                return False
            chosen = min(waiting, key=_waiting_since)
        self._shed["silent" if chosen.silent else "idle" if chosen.idle else "stalled"] += 1
        self.remove(chosen)
        chosen.drop()
        return True

    def _oldest_silent(self) -> Client | None:
        while self._new:
            oldest = next(iter(self._new))
            if oldest.silent:
                return oldest
            del self._new[oldest]
            self._known[oldest] = None
        return None

    def _longest_waiting(self) -> Client | None:
        """Return one of those that have sent a request: an idle one if any is, because closing it costs the least."""
        sample = list(islice(self._known, _SAMPLE))
        for connection in sample:  # others the next time
            self._known.move_to_end(connection)
        idle = [connection for connection in sample if connection.idle]
        return min(idle or filter(_stalled, sample), key=_waiting_since, default=None)


def _stalled(connection: Client) -> bool:
    return connection.stalled


def _waiting_since(connection: Client) -> float:
    return connection.waiting_since
