"""The breaker opens at the first failure and closes when a probe succeeds; it probes one at a time, and ever less."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from receiver.delivery.breaker import FIRST_WAIT, LONGEST_WAIT, Breaker
from receiver.errors import WriteFailedError

AWAY = WriteFailedError("timeout", "no reply")


class Prober:
    """Something that takes no writes until it is back, and remembers when it was asked."""

    def __init__(self):
        """Begin away."""
        self.back = False
        self.asked = []
        self.at_once = self.max_at_once = 0

    async def probe(self):
        """Fail, or not."""
        self.asked.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.max_at_once = max(self.max_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        if not self.back:
            raise WriteFailedError("timeout", "no reply")

    async def times(self, count, within):
        """Wait until it was asked so many times."""
        async with asyncio.timeout(within):
            while len(self.asked) < count:
                await asyncio.sleep(0.005)


@pytest.fixture
def prober():
    """Return something that is away."""
    return Prober()


@pytest.fixture
def states():
    """Return what the breaker was at each change."""
    return []


@pytest.fixture
async def breaker(prober, states):
    """Return a breaker, closed."""
    one = Breaker(prober.probe, lambda _: states.append(one.closed), structlog.get_logger("test"))
    yield one
    await one.close()


async def test_it_opens_at_the_first_failure_and_closes_when_a_probe_succeeds(breaker, prober, states):
    """Each change is told, and logged with the reason and the time away."""
    assert breaker.closed
    with structlog.testing.capture_logs() as logs:
        breaker.trip(AWAY)
        assert not breaker.closed
        await prober.times(2, within=10)
        prober.back = True
        async with asyncio.timeout(10):
            while len(states) < 2:
                await asyncio.sleep(0.005)
    assert states == [False, True]
    assert [(log["event"], log.get("reason")) for log in logs if log["log_level"] == "warning"] == [
        ("redis.away", "timeout"),
        ("redis.back", None),
    ]
    assert logs[-1]["away_seconds"] > 0


async def test_further_failures_change_nothing_while_it_is_open(breaker, prober, states):
    """Those of all callbacks that were under way: one line in the log, and one probe at a time."""
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            breaker.trip(AWAY)
        await prober.times(3, within=10)
    assert states == [False]
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["redis.away"]
    assert prober.max_at_once == 1


async def test_it_opens_again_after_it_was_back(breaker, prober, states):
    """And probes again, from the shortest wait on."""
    for _ in range(2):
        prober.back = True
        breaker.trip(AWAY)
        async with asyncio.timeout(10):
            while not breaker.closed:
                await asyncio.sleep(0.005)
    assert states == [False, True, False, True]
    assert len(prober.asked) == 2


async def test_the_waits_between_probes_double(breaker, prober):
    """A Redis that comes back finds no crowd; jitter makes a wait a fifth shorter at most."""
    began = asyncio.get_running_loop().time()
    breaker.trip(AWAY)
    await prober.times(4, within=30)
    assert prober.asked[3] - began > 0.8 * FIRST_WAIT * (1 + 2 + 4 + 8)


async def test_no_wait_is_much_longer_than_a_second(breaker, prober):
    """So that traffic goes back to Redis a second after it is back, however long it was away."""
    breaker.trip(AWAY)
    await prober.times(6, within=30)  # the next wait would be 3.2 s
    await prober.times(8, within=2 * 1.2 * LONGEST_WAIT + 1.5)


async def test_closed_for_good_it_probes_no_more(prober, states):
    """The service stops while Redis is away."""
    one = Breaker(prober.probe, lambda _: None, structlog.get_logger("test"))
    one.trip(AWAY)
    await prober.times(1, within=10)
    async with asyncio.timeout(5):
        await one.close()
    asked = len(prober.asked)
    await asyncio.sleep(5 * FIRST_WAIT)
    assert len(prober.asked) == asked


async def test_closed_for_good_it_does_not_open(prober, states):
    """Its primary has lost all slots, and a write to it fails later: nobody would end the probes."""
    one = Breaker(prober.probe, lambda _: states.append(one.closed), structlog.get_logger("test"))
    await one.close()
    one.trip(AWAY)
    assert (states, one.closed) == ([], True)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "probe"]
