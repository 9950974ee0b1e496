"""A steady load of numbered events, for the comparison of what was acknowledged with what is in the streams.

It is sent as Tencent sends: see ``behaviour``. Unlike ``CallbackSender`` it keeps its rate whatever the answers, has
several services to choose from, and writes each answer down under the fault of the moment.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import msgspec

from receiver.providers.tencent import Tencent
from receiver.simulator.behaviour import BEHAVIOURS
from receiver.simulator.sender import NO_ANSWER, Answered, insist, post
from receiver.simulator.tencent import reply, status_report
from receiver.simulator.traffic import Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from receiver.chaos.ack_log import AckLog
    from receiver.simulator.traffic import Item

_TENCENT: Final = BEHAVIOURS[Tencent.name]
_TICK: Final = 0.005
#: Shares of callbacks that are a single reply, and that hold a bad item beside good ones.
_REPLIES: Final = 0.05
_BAD_ITEMS: Final = 0.02


class SteadySender:
    """Posts callbacks at a steady rate, whether they are answered or not."""

    def __init__(  # noqa: PLR0913 the knobs of a load
        self,
        urls: Sequence[str],
        ack_log: AckLog,
        *,
        rate: float,
        batch: int = 10,
        seed: int = 0,
        pause: float = 0.3,
        twins: float = 0.0,
        max_in_flight: int = 1000,
    ) -> None:
        """Take the services to choose from, events a second, events a callback, seconds between attempts.

        ``twins`` is the share of callbacks that go to every service at the same moment. ``max_in_flight`` limits those
        that wait for their answer or for their next attempt.
        """
        self.urls = list(urls)
        self.ack_log = ack_log
        self.rate = rate
        self.batch = batch
        self._run = f"prove{seed:x}"
        self._random = random.Random(seed)  # noqa: S311 a load, no secret
        self._pause = pause
        self._twins = twins
        self._max_in_flight = max_in_flight
        self._posting: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Begin to post."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_TENCENT.timeout)
        )
        self._pump = asyncio.create_task(self._keep_posting(self._session))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Post nothing new; see through what was begun, its retries included."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        if self._posting:
            await asyncio.wait(self._posting)
        if self._session is not None:
            await self._session.close()

    def slow_down(self, rate: float, batch: int) -> None:
        """Post so many events a second, and so many in a callback, from now on."""
        self.rate, self.batch = rate, batch

    async def _keep_posting(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        last, due = loop.time(), 0.0
        while True:
            now = loop.time()
            due += (now - last) * self.rate / self.batch
            last = now
            while due >= 1:
                due -= 1
                if len(self._posting) < self._max_in_flight:
                    task = asyncio.create_task(self._push(session))
                    self._posting.add(task)
                    task.add_done_callback(self._posting.discard)
            await asyncio.sleep(_TICK)

    async def _push(self, session: aiohttp.ClientSession) -> None:
        """Deliver one callback in as many attempts as Tencent makes."""
        numbers = self.ack_log.draw(1 if self._random.random() < _REPLIES else self.batch)
        body = self._body(numbers)
        twins = len(self.urls) > 1 and self._random.random() < self._twins

        async def attempt() -> Answered:
            urls = self.urls if twins else [self._random.choice(self.urls)]
            answers = await asyncio.gather(*(self._post(session, url, numbers, body) for url in urls))
            return next((answer for answer in answers if answer.acknowledged), answers[0])

        await insist(attempt, [self._pause] * len(_TENCENT.pauses), _TENCENT.repeats, self._retry_after)

    async def _retry_after(self, seconds: float) -> bool:
        await asyncio.sleep(seconds * (0.5 + self._random.random()))
        return False

    async def _post(self, session: aiohttp.ClientSession, url: str, numbers: range, body: bytes) -> Answered:
        segment = self.ack_log.segment
        answer = await post(session, Request("POST", url + "/sms/callback", {}, body), _TENCENT)
        if answer.acknowledged:
            self.ack_log.acknowledge(numbers, answer.seconds, segment)
        elif answer.status:
            self.ack_log.refuse(answer.status, answer.seconds, segment)
        elif answer.outcome == NO_ANSWER:
            segment.unanswered += 1
        else:
            segment.broken += 1
        return answer

    def _body(self, numbers: range) -> bytes:
        if len(numbers) == 1:
            return msgspec.json.encode(self._reply(numbers[0]))
        items = [self._report(number) for number in numbers]
        if self._random.random() < _BAD_ITEMS:
            items[0]["report_status"] = "MAYBE"
        return msgspec.json.encode(items)

    def _report(self, number: int) -> Item:
        failure = ("UNDELIV", "空号/停机/关机") if number % 10 == 0 else None
        return status_report(f"{self._run}:{number}", _mobile(number), "2026-11-21 08:03:04", failure)

    def _reply(self, number: int) -> Item:
        return reply("00", _mobile(number), "proof", f"{self._run}:{number}", 1_770_000_000)


def _mobile(number: int) -> str:
    return f"138{number % 10**8:08d}"
