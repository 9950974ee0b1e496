"""Group commit: what waits goes together, in order, and everyone learns what became of his own."""

from __future__ import annotations

import asyncio

import pytest

from receiver.delivery.group_commit import MAX_BYTES, MAX_EVENTS, GroupCommit
from receiver.errors import WriteFailedError
from receiver.events import Entry


def entries(*numbers, topic="t"):
    """Return entries by number."""
    return [Entry(topic, number.to_bytes(16, "big"), b"%d" % number) for number in numbers]


class Store:
    """Something that takes writes: each waits until it is let go, and may be told to fail."""

    def __init__(self):
        """Begin with nothing written."""
        self.writes = []
        self.since = []
        self.started = asyncio.Queue()
        self.results = asyncio.Queue()

    async def write(self, batch, since):
        """Write when told to."""
        self.writes.append([int(entry.data) for entry in batch])
        self.since.append(since)
        self.started.put_nowait(None)
        result = await self.results.get()
        if isinstance(result, Exception):
            raise result
        return result


@pytest.fixture
async def store():
    """Return a store that tells when a write begins."""
    return Store()


@pytest.fixture
async def group(store):
    """Return a group commit into the store."""
    commit = GroupCommit(store.write)
    commit.start()
    yield commit
    store.results.put_nowait({})
    async with asyncio.timeout(5):
        await commit.close()


async def test_what_comes_during_a_write_goes_into_the_next_one_together(store, group):
    """In the order in which it came, and one write at a time."""
    first = group.commit(entries(1), 100)
    await store.started.get()
    others = [group.commit(entries(number), 100) for number in (2, 3, 4)]
    assert not first.done()
    store.results.put_nowait({})
    await first
    await store.started.get()
    assert not any(other.done() for other in others)
    store.results.put_nowait({})
    await asyncio.gather(*others)
    assert store.writes == [[1], [2, 3, 4]]


async def test_a_write_is_bounded_and_a_callers_entries_stay_together(store, group):
    """Also those of one caller that are more than the bound by themselves."""
    big = group.commit(entries(*range(MAX_EVENTS + 1)), 100)
    more = [group.commit(entries(*range(MAX_EVENTS - 1)), 100)]
    more += [group.commit(entries(number), 100) for number in (1, 2)]
    for _ in range(3):
        store.results.put_nowait({})
    await asyncio.gather(big, *more)
    assert [len(write) for write in store.writes] == [MAX_EVENTS + 1, MAX_EVENTS, 1]


async def test_a_write_is_bounded_in_bytes_too(store, group):
    """A few large callbacks go one after the other; one that is larger than the bound goes alone."""
    waiting = [group.commit(entries(number), size) for number, size in enumerate([MAX_BYTES + 1, MAX_BYTES, 1, 1])]
    for _ in range(3):
        store.results.put_nowait({})
    await asyncio.gather(*waiting)
    assert store.writes == [[0], [1], [2, 3]]


async def test_a_failed_write_is_told_to_all_who_wait(store, group):
    """Those in the queue need not wait for a time-out of their own; those who come later have a new chance."""
    first = group.commit(entries(1), 100)
    await store.started.get()
    queued = group.commit(entries(2), 100)
    store.results.put_nowait(WriteFailedError("timeout", "no reply"))
    for future in (first, queued):
        with pytest.raises(WriteFailedError, match="no reply"):
            await future
    later = group.commit(entries(3), 100)
    store.results.put_nowait({})
    await later
    assert store.writes == [[1], [3]]


async def test_each_who_waits_has_an_error_of_his_own(store, group):
    """Raised by many, one would collect the frames of all of them."""
    waiting = [group.commit(entries(number), 100) for number in (1, 2)]
    store.results.put_nowait(WriteFailedError("timeout", "no reply"))
    first, second = await asyncio.gather(*waiting, return_exceptions=True)
    assert first is not second
    assert (first.reason, str(first)) == (second.reason, str(second)) == ("timeout", "no reply")


async def test_a_write_is_told_since_when_the_first_of_its_callers_waits(store, group):
    """Time in the queue counts: the caller's own caller waits for two seconds in all."""
    loop = asyncio.get_running_loop()
    group.commit(entries(1), 100)
    await store.started.get()
    handed_in = loop.time()
    waiting = [group.commit(entries(2), 100)]
    until = loop.time()
    await asyncio.sleep(0.05)
    waiting.append(group.commit(entries(3), 100))
    for _ in range(2):
        store.results.put_nowait({})
    await asyncio.gather(*waiting)
    assert store.writes == [[1], [2, 3]]
    assert handed_in <= store.since[1] <= until


async def test_a_topic_that_fails_is_told_to_those_who_write_to_it(store, group):
    """The others are safe."""
    good, bad = group.commit(entries(1), 100), group.commit(entries(2, topic="bad"), 100)
    both = group.commit(entries(3) + entries(4, topic="bad"), 100)
    store.results.put_nowait({"bad": WriteFailedError("WRONGTYPE", "no stream", "bad")})
    assert not await good
    for future in (bad, both):
        failed = await future
        assert [(topic, str(error)) for topic, error in failed.items()] == [("bad", "no stream")]


async def test_a_failure_that_nobody_thought_of_does_not_end_the_writes(store, group):
    """It is a failure of that write alone."""
    first = group.commit(entries(1), 100)
    store.results.put_nowait(ZeroDivisionError("a bug"))
    with pytest.raises(WriteFailedError, match="a bug"):
        await first
    second = group.commit(entries(2), 100)
    store.results.put_nowait({})
    await second


async def test_a_caller_that_gives_up_while_it_waits_is_not_written_and_harms_no_other(store, group):
    """It was refused. Written all the same, those who give up would pile up behind a slow disk."""
    first = group.commit(entries(1), 100)
    await store.started.get()
    gone, other = group.commit(entries(2), 100), group.commit(entries(3), 100)
    gone.cancel()
    store.results.put_nowait({})
    store.results.put_nowait({})
    await first
    await other
    assert store.writes == [[1], [3]]


async def test_a_caller_that_gives_up_does_not_stop_a_write_under_way(store, group):
    """Others may be in it."""
    gone = group.commit(entries(1), 100)
    await store.started.get()
    gone.cancel()
    store.results.put_nowait({})
    second = group.commit(entries(2), 100)
    store.results.put_nowait({})
    await second
    assert store.writes == [[1], [2]]


async def test_closing_waits_for_the_write_under_way_and_for_those_that_wait(store):
    """What was handed in becomes safe before the connection is let go."""
    group = GroupCommit(store.write)
    group.start()
    first = group.commit(entries(1), 100)
    await store.started.get()
    second = group.commit(entries(2), 100)
    closing = asyncio.create_task(group.close())
    store.results.put_nowait({})
    store.results.put_nowait({})
    async with asyncio.timeout(5):
        await closing
        await asyncio.gather(first, second)


async def test_closing_waits_for_a_write_under_way_when_nobody_else_waits(store):
    """The last callback before the stop is no less safe than the others."""
    group = GroupCommit(store.write)
    group.start()
    last = group.commit(entries(1), 100)
    await store.started.get()
    closing = asyncio.create_task(group.close())
    await asyncio.wait([closing], timeout=0.05)
    store.results.put_nowait({})
    async with asyncio.timeout(5):
        await closing
        await last


async def test_closing_what_was_never_started_is_nothing(store):
    """A start that failed is cleaned up all the same."""
    await GroupCommit(store.write).close()


async def test_a_callback_that_is_handed_in_again_keeps_its_time(store, group):
    """One deadline holds for both attempts."""
    group.commit(entries(1), 100, 12.5)
    await store.started.get()
    assert store.since == [12.5]
