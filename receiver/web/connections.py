"""The bound on open connections. Connections that do nothing must not keep callbacks out.

At the bound, a new connection replaces one that waits for its client. The first choice is a connection without a
request for a second or more. The second choice is the connection that has waited longest: still without a request, idle
between requests, or with a client that is slow to send a body or read a response. The new connection is refused only
when all others are busy.
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

#: Seconds for a client's first request. A connection that is silent for longer is always the first to be closed.
_GRACE: Final = 1.0
#: How far the count may exceed the bound when no connection can be closed, as a share and as a number. A request in the
#: middle of its handover looks busy.
_SLACK, _MAX_SLACK = 0.05, 50
#: Connections examined to find an idle one: a good enough choice, at a fixed cost.
_SAMPLE: Final = 16


class Client(Protocol):
    """A client's connection, as far as it matters here."""

    @property
    def silent(self) -> bool:
        """Whether it has never sent a complete request head."""

    @property
    def idle(self) -> bool:
        """Whether it waits for the next request."""

    @property
    def stalled(self) -> bool:
        """Whether its request waits for the client to send the body or read the response."""

    @property
    def waiting_since(self) -> float:
        """When it last answered, or was opened, by the event loop's clock."""

    def drop(self) -> None:
        """Close it at once."""


class Connections:
    """The open connections. At the bound it closes one to make room."""

    def __init__(self, limit: int, logger: Logger) -> None:
        self._limit = limit
        self._hard_limit = limit + 1 + min(int(limit * _SLACK), _MAX_SLACK)
        self._logger = logger
        #: Without a request when last examined, in the order of opening. A request itself costs nothing here: the
        #: connection moves to ``_served`` when it is next examined.
        self._new: OrderedDict[Client, None] = OrderedDict()
        #: With a request, in the order in which they were examined.
        self._served: OrderedDict[Client, None] = OrderedDict()
        self._shed: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._full = OnceAMinute()
        self._no_descriptors = OnceAMinute()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._new) + len(self._served)

    def add(self, connection: Client) -> bool:
        """Add a new connection, closing another one at the bound. Return False if none can be closed."""
        while len(self) >= self._limit and self._make_room():
            pass
        if len(self) >= self._hard_limit:
            self._shed["refused"] += 1
            return False
        self._new[connection] = None
        return True

    def remove(self, connection: Client) -> None:
        """Remove a closed connection."""
        self._new.pop(connection, None)
        self._served.pop(connection, None)

    def report(self) -> None:
        """Set the metrics, and log problems at most once a minute. Call it every second."""
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
            self._served[oldest] = None
        return None

    def _longest_waiting(self) -> Client | None:
        """Return a connection that has sent a request, preferably an idle one: closing it costs least."""
        sample = list(islice(self._served, _SAMPLE))
        for connection in sample:  # the next call examines others
            self._served.move_to_end(connection)
        idle = [connection for connection in sample if connection.idle]
        return min(idle or filter(_stalled, sample), key=_waiting_since, default=None)


def _stalled(connection: Client) -> bool:
    return connection.stalled


def _waiting_since(connection: Client) -> float:
    return connection.waiting_since
