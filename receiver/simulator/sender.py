"""Pushes callbacks as a provider does: what is not acknowledged is sent again, twice, and then given up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.simulator.tencent import Callback, Traffic

#: Tencent sends a push again so often: https://cloud.tencent.com/document/api/382/59178
RETRIES: Final = 2
ACKNOWLEDGED: Final = "acknowledged"
#: Callbacks that may wait for a retry or a free connection; past that no new ones are made, so memory stays flat.
_MAX_WAITING: Final = 1000
_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "receiver-simulate"}


class SendPlan(NamedTuple):
    """What to send, how fast, and what to do about failures."""

    url: str
    callbacks: int  # 0: until stopped
    rate: float  # callbacks a second, 0: as fast as answers come
    concurrency: int
    timeout: float
    pause: float  # before a retry
    duplicates: float  # the share of acknowledged callbacks that are sent once more


class _Answer(msgspec.Struct):
    result: int


_answer: Final = msgspec.json.Decoder(_Answer)


class RunStats:
    """What has happened so far."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.outcomes: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.sent = self.acknowledged = self.given_up = self.retries = self.duplicates = 0
        self.events = self.rejected = 0
        self._began = time.monotonic()
        self._ended: float | None = None

    @property
    def done(self) -> int:
        """Callbacks of which the end is known."""
        return self.acknowledged + self.given_up

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return (self._ended or time.monotonic()) - self._began

    def end(self) -> None:
        """Stop the clock."""
        self._ended = time.monotonic()

    def percentiles(self) -> dict[str, float]:
        """Return p50, p90, p99 and max of the answers' latencies in milliseconds; nothing without answers."""
        ordered = sorted(self.latencies)
        if not ordered:
            return {}
        last = len(ordered) - 1
        at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {name: round(ordered[round(last * share)] * 1000, 2) for name, share in at.items()}


class CallbackSender:
    """Sends a plan's callbacks."""

    def __init__(self, plan: SendPlan, traffic: Traffic, record: Callable[[list[str]], None]) -> None:
        """Take who records the ids of what was acknowledged."""
        self.stats = RunStats()
        self._plan = plan
        self._traffic = traffic
        self._record = record
        self._stop = asyncio.Event()
        self._connections = asyncio.Semaphore(plan.concurrency)
        self._open = asyncio.Semaphore(plan.concurrency + _MAX_WAITING)

    def stop(self) -> None:
        """Send nothing new and nothing again; what is under way gets its answer."""
        self._stop.set()

    async def run(self) -> RunStats:
        """Send all, and return what became of it."""
        timeout = aiohttp.ClientTimeout(total=self._plan.timeout)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=_HEADERS) as session,
            asyncio.TaskGroup() as pushes,
        ):
            while not self._stop.is_set() and (self._plan.callbacks == 0 or self.stats.sent < self._plan.callbacks):
                await self._open.acquire()
                if self._plan.rate:
                    await self._stopped_within(self.stats.sent / self._plan.rate - self.stats.seconds)
                if not self._stop.is_set():
                    self.stats.sent += 1
                    pushes.create_task(self._push(session, self._traffic.next()))
        self.stats.end()
        return self.stats

    async def _push(self, session: aiohttp.ClientSession, push: Callback) -> None:
        try:
            if await self._insist(session, push):
                self.stats.acknowledged += 1
                self.stats.events += push.items - push.invalid
                self.stats.rejected += push.invalid
                self._record(push.sids)
                if random.random() < self._plan.duplicates:  # noqa: S311 no secret
                    self.stats.duplicates += 1
                    await self._post(session, push.body)
            else:
                self.stats.given_up += 1
        finally:
            self._open.release()

    async def _insist(self, session: aiohttp.ClientSession, push: Callback) -> bool:
        """Send until it is acknowledged, at most 1 + RETRIES times."""
        for again in range(RETRIES + 1):
            if again:
                if await self._stopped_within(self._plan.pause):
                    return False
                self.stats.retries += 1
            if await self._post(session, push.body):
                return True
        return False

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> bool:
        async with self._connections:
            began = time.perf_counter()
            outcome = await _posted(session, self._plan.url, body)
        self.stats.latencies.append(time.perf_counter() - began)
        self.stats.outcomes[outcome] += 1
        return outcome == ACKNOWLEDGED

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait so long, or until there is nothing to wait for any more."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            except TimeoutError:
                return False
        return self._stop.is_set()


async def _posted(session: aiohttp.ClientSession, url: str, body: bytes) -> str:
    """Send once and say what came back, in words that can be counted."""
    try:
        async with session.post(url, data=body) as response:
            return _outcome(response.status, await response.read())
    except TimeoutError:
        return "no answer in time"
    except aiohttp.ClientConnectorError:
        return "cannot connect"
    except (aiohttp.ClientError, OSError):
        return "connection lost"


def _outcome(status: int, body: bytes) -> str:
    """Tell an ack, HTTP 2xx and ``result`` 0, from all else."""
    if not 200 <= status < 300:  # noqa: PLR2004 what HTTP calls successful
        return f"HTTP {status}"
    try:
        result = _answer.decode(body).result
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"HTTP {status} without a result"
    return ACKNOWLEDGED if result == 0 else f"HTTP {status}, result {result}"
