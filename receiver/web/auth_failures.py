"""Counts wrong credentials by client, so that the operator sees guessing.

Credentials are checked before the count, so right ones are never refused. An address may belong to a proxy or an office
with many clients. The count only changes the answer to wrong credentials from 401 to 429, which makes a misconfigured
client wait. The length of the key, not this count, protects against guessing.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver import metrics
from receiver.log import OnceAMinute

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.log import Logger

#: Wrong credentials in a row that get 401: more than typing errors, or a provider's retries with an old key.
BURST: Final = 20
#: Seconds until one more gets 401.
INTERVAL: Final = 3.0
#: Clients in memory, some 2 MB. Beyond it, the client with the oldest last failure is dropped.
MAX_CLIENTS: Final = 10_000
#: Clients logged individually each minute.
_MAX_LOGGED: Final = 10


@dataclass(slots=True)
class _Bucket:
    """A token bucket as one number (GCRA): when it is full again, in the clock's seconds.

    ``refused`` counts the 429 answers since the last report.
    """

    full_at: float
    refused: int = 0


class AuthFailures:
    """One token bucket for each client that has sent wrong credentials."""

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds."""
        self._logger = logger
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._minute = OnceAMinute(clock)
        self._unreported = False

    def count(self, client: str, credential: str) -> int | None:
        """Count wrong credentials of a client; ``credential`` is one of ``metrics.CREDENTIALS``.

        Return None for 401, or the seconds to wait for 429.
        """
        now = self._clock()
        bucket = self._bucket(client, now)
        wait = bucket.full_at - now - (BURST - 1) * INTERVAL
        if wait > 0:
            bucket.refused += 1
            self._unreported = True
            metrics.AUTH_FAILURES.labels(credential, "rate_limited").inc()
            return math.ceil(wait)
        bucket.full_at += INTERVAL
        metrics.AUTH_FAILURES.labels(credential, "unauthorized").inc()
        return None

    def report(self) -> None:
        """Log the clients that got 429, at most once a minute. Call it every second."""
        if not self._unreported or not self._minute.due():
            return
        self._unreported = False
        refused = {client: bucket for client, bucket in self._buckets.items() if bucket.refused}
        for client in heapq.nlargest(_MAX_LOGGED, refused, key=lambda name: refused[name].refused):
            self._logger.warning("auth.rate_limited", address=client, count=refused[client].refused)
        if len(refused) > _MAX_LOGGED:
            self._logger.warning("auth.more_rate_limited", addresses_count=len(refused) - _MAX_LOGGED)
        for bucket in refused.values():
            bucket.refused = 0

    def _bucket(self, client: str, now: float) -> _Bucket:
        bucket = self._buckets.setdefault(client, _Bucket(now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        bucket.full_at = max(bucket.full_at, now)
        return bucket
