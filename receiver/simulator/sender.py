"""Pushes callbacks as a provider does: what is not acknowledged is sent again, a few times, and then given up."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from yarl import URL

from receiver.simulator.behaviour import ACKNOWLEDGED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from receiver.simulator.behaviour import Behaviour
    from receiver.simulator.traffic import Callback, Request, Signer, Traffic

#: Outcomes of a callback that got no answer.
NO_ANSWER: Final = "no answer in time"
CANNOT_CONNECT: Final = "cannot connect"
UNKNOWN_HOST: Final = "unknown host"
TLS_FAILED: Final = "TLS failed"
LOST: Final = "connection lost"
#: Callbacks that may wait for a retry or a free connection; past that no new ones are made, so memory stays flat.
_MAX_WAITING: Final = 1000
_HEADERS: Final = {"User-Agent": "receiver-simulate"}


class Answered(NamedTuple):
    """What came back: the outcome in words that can be counted, the status or 0, and after how many seconds."""

    outcome: str
    status: int
    seconds: float

    @property
    def acknowledged(self) -> bool:
        """Whether the callback was acknowledged."""
        return self.outcome == ACKNOWLEDGED


async def post(session: aiohttp.ClientSession, request: Request, behaviour: Behaviour) -> Answered:
    """Send a request once."""
    began, status = time.perf_counter(), 0
    url = URL(request.url, encoded=True)  # a signature covers the URL as it is
    try:
        async with session.request(request.method, url, headers=request.headers, data=request.body or None) as response:
            body = await response.read()
            status, outcome = response.status, behaviour.outcome(response.status, body)
    except TimeoutError:
        outcome = NO_ANSWER
    except aiohttp.ClientConnectorDNSError:
        outcome = UNKNOWN_HOST
    except aiohttp.ClientSSLError:
        outcome = TLS_FAILED
    except aiohttp.ClientConnectorError:
        outcome = CANNOT_CONNECT
    except (aiohttp.ClientError, OSError):
        outcome = LOST
    return Answered(outcome, status, time.perf_counter() - began)


async def insist(
    attempt: Callable[[], Awaitable[Answered]],
    pauses: Sequence[float],
    repeats: Callable[[int], bool],
    pause: Callable[[float], Awaitable[bool]],
) -> bool:
    """Attempt until there is an ack, or no retry is left, and return whether there was one.

    ``pause`` waits before a retry, and returns True to give up.
    """
    answer = await attempt()
    for seconds in pauses:
        if answer.acknowledged or not repeats(answer.status) or await pause(seconds):
            break
        answer = await attempt()
    return answer.acknowledged


class SendPlan(NamedTuple):
    """What to send, how fast, and what to do about failures."""

    url: str
    callbacks: int  # 0: until stopped
    rate: float  # callbacks a second, 0: as fast as answers come
    concurrency: int
    timeout: float
    pause: float  # before the first retry; the others are in proportion
    duplicates: float  # the share of acknowledged callbacks that are sent once more
    behaviour: Behaviour
    signer: Signer | None = None


class RunStats:
    """What has happened so far."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.outcomes: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.sent = self.acknowledged = self.given_up = self.retries = self.duplicates = 0
        self.events = self.rejected = self.pending = 0
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

    def __init__(self, plan: SendPlan, traffic: Traffic, record: Callable[[Sequence[str]], None]) -> None:
        """Take what records the ids of acknowledged reports."""
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
            if await insist(
                lambda: self._post(session, push), self._pauses(push), self._plan.behaviour.repeats, self._retry_after
            ):
                self.stats.acknowledged += 1
                self.stats.events += push.items - push.invalid - push.pending
                self.stats.rejected += push.invalid
                self.stats.pending += push.pending
                self._record(push.ids)
                if random.random() < self._plan.duplicates:  # noqa: S311 no secret
                    self.stats.duplicates += 1
                    await self._post(session, push)
            else:
                self.stats.given_up += 1
        finally:
            self._open.release()

    def _pauses(self, push: Callback) -> list[float]:
        """Return the provider's pauses, scaled to begin with that of the plan."""
        behaviour = self._plan.behaviour
        pauses = behaviour.pauses
        if push.is_reply and behaviour.reply_pauses is not None:
            pauses = behaviour.reply_pauses
        return [self._plan.pause * seconds / pauses[0] for seconds in pauses]

    async def _retry_after(self, seconds: float) -> bool:
        if await self._stopped_within(seconds):
            return True
        self.stats.retries += 1
        return False

    async def _post(self, session: aiohttp.ClientSession, push: Callback) -> Answered:
        async with self._connections:
            request = push.request(self._plan.url)
            if self._plan.signer is not None:  # each attempt is signed when it is made
                request = self._plan.signer(request, time.time())
            answer = await post(session, request, self._plan.behaviour)
        self.stats.latencies.append(answer.seconds)
        self.stats.outcomes[answer.outcome] += 1
        return answer

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait so long, or until there is nothing to wait for any more."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            except TimeoutError:
                return False
        return self._stop.is_set()
