"""A provider that behaves as Tencent does: it posts, believes only a 200 with result 0, and posts twice more if not."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from receiver.chaos.ack_log import AckLog

#: A push that got no ack is sent again two more times (contracts/tencent-callbacks.md).
ATTEMPTS: Final = 3
#: Seconds that the provider waits for an answer. What takes longer is counted as not answered.
PATIENCE: Final = 5.0
_TICK: Final = 0.005
_MAX_IN_FLIGHT: Final = 1000
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
    ) -> None:
        """Take the services to choose from, events a second, events a callback, seconds between attempts.

        ``twins`` is the share of callbacks that go to every service at the same moment.
        """
        self.urls = list(urls)
        self.ack_log = ack_log
        self.rate = rate
        self.batch = batch
        self._run = f"prove{seed:x}"
        self._random = random.Random(seed)  # noqa: S311 a load, no secret
        self._pause = pause
        self._twins = twins
        self._posting: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Begin to post."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=PATIENCE)
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
                if len(self._posting) < _MAX_IN_FLIGHT:
                    task = asyncio.create_task(self._push(session))
                    self._posting.add(task)
                    task.add_done_callback(self._posting.discard)
            await asyncio.sleep(_TICK)

    async def _push(self, session: aiohttp.ClientSession) -> None:
        """Deliver one callback in up to three attempts."""
        numbers = self.ack_log.draw(1 if self._random.random() < _REPLIES else self.batch)
        body = self._body(numbers)
        twins = len(self.urls) > 1 and self._random.random() < self._twins
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._pause * (0.5 + self._random.random()))
            urls = self.urls if twins else [self._random.choice(self.urls)]
            if any(await asyncio.gather(*(self._post(session, url, numbers, body) for url in urls))):
                return

    async def _post(self, session: aiohttp.ClientSession, url: str, numbers: range, body: bytes) -> bool:
        segment, began = self.ack_log.segment, time.perf_counter()
        try:
            async with session.post(url + "/sms/callback", data=body) as response:
                answer = await response.read()
        except TimeoutError:
            segment.unanswered += 1
            return False
        except (aiohttp.ClientError, OSError):
            segment.broken += 1
            return False
        seconds = time.perf_counter() - began
        if response.status == 200 and _result(answer) == 0:  # noqa: PLR2004 the code itself
            self.ack_log.acknowledge(numbers, seconds, segment)
            return True
        self.ack_log.refuse(response.status, seconds, segment)
        return False

    def _body(self, numbers: range) -> bytes:
        if len(numbers) == 1:
            return msgspec.json.encode(self._reply(numbers[0]))
        items = [self._report(number) for number in numbers]
        if self._random.random() < _BAD_ITEMS:
            items[0]["report_status"] = "MAYBE"
        return msgspec.json.encode(items)

    def _report(self, number: int) -> dict[str, Any]:
        return {
            "user_receive_time": "2026-11-21 08:03:04",
            "nationcode": "86",
            "mobile": f"138{number % 10**8:08d}",
            "report_status": "FAIL" if number % 10 == 0 else "SUCCESS",
            "errmsg": "DELIVRD",
            "description": "用户短信送达成功",
            "sid": f"{self._run}:{number}",
        }

    def _reply(self, number: int) -> dict[str, Any]:
        return {
            "extend": "00",
            "mobile": f"138{number % 10**8:08d}",
            "nationcode": "86",
            "sign": "proof",
            "text": f"{self._run}:{number}",
            "time": 1_770_000_000,
        }


def _result(answer: bytes) -> object:
    try:
        decoded = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        return None
    return decoded.get("result") if isinstance(decoded, dict) else None
