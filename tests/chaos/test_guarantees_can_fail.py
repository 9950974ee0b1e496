"""A checker that cannot see a fault proves nothing: here it is shown faults made by hand."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from receiver.chaos.ack_log import AckLog
from receiver.chaos.comparison import Comparison, compare, count_spooled
from receiver.chaos.processes import Valkey
from receiver.chaos.run import RunOutcome
from receiver.chaos.summary import RunSummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_TOPIC = "urn:smn:local:default:sms_success"


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Give an empty Valkey."""
    server = Valkey(tmp_path / "valkey")
    await server.start()
    yield server
    await server.kill()


def _report(number: int) -> bytes:
    return b'{"id":"x","data":{"message_id":"prove0:%d"}}' % number


def _promised(count: int) -> AckLog:
    ack_log = AckLog()
    segment = ack_log.enter("redis-killed")
    ack_log.acknowledge(ack_log.draw(count), 0.01, segment)
    return ack_log


def _seen(valkey: Valkey, ack_log: AckLog) -> Comparison:
    with valkey.client() as client:
        return compare([client], ack_log)


async def test_what_is_right_is_found_right(valkey: Valkey) -> None:
    """Each of 5,000 promised events is there once, over several pages and two streams: nothing to say."""
    ack_log = _promised(5000)
    with valkey.client() as client, client.pipeline(transaction=False) as pipe:  # one fsync, not 5,000
        for number in range(5000):
            pipe.xadd(_TOPIC if number % 2 else _TOPIC + "2", {"data": _report(number)})
        pipe.execute()
    comparison = _seen(valkey, ack_log)
    assert comparison.holds
    assert comparison.entries == 5000


async def test_an_entry_deleted_by_hand_is_missing(valkey: Valkey) -> None:
    """Exactly the deleted one is reported."""
    ack_log = _promised(10)
    with valkey.client() as client:
        ids = [client.xadd(_TOPIC, {"data": _report(number)}) for number in range(10)]
        client.xdel(_TOPIC, ids[7])
    assert _seen(valkey, ack_log).missing == [7]


async def test_an_entry_added_twice_by_hand_is_doubled(valkey: Valkey) -> None:
    """Exactly the doubled ones are reported, promised or refused, in the same stream or another."""
    ack_log = _promised(10)
    refused = ack_log.draw(1)[0]
    with valkey.client() as client:
        for number in [*range(10), 3, refused, refused]:
            client.xadd(_TOPIC, {"data": _report(number)})
        client.xadd(_TOPIC + "2", {"data": _report(5)})
    comparison = _seen(valkey, ack_log)
    assert comparison.doubled == [3, 5, refused]
    assert comparison.missing == []


async def test_a_refused_event_may_be_there_or_not(valkey: Valkey) -> None:
    """A refusal promises nothing: an ambiguous publish may have stored it."""
    ack_log = _promised(1)
    ack_log.draw(2)
    with valkey.client() as client:
        client.xadd(_TOPIC, {"data": _report(0)})
        client.xadd(_TOPIC, {"data": _report(1)})
    assert _seen(valkey, ack_log).holds


async def test_an_entry_that_nobody_sent_is_strange(valkey: Valkey) -> None:
    """It is no event of ours: the count says so."""
    ack_log = _promised(1)
    with valkey.client() as client:
        for number in (0, 77):
            client.xadd(_TOPIC, {"data": _report(number)})
    assert _seen(valkey, ack_log).strange == 1


async def test_the_report_blames_the_fault_and_fails(valkey: Valkey) -> None:
    """A missing event stands in the line of the fault during which it was sent, and the command's exit code is 1."""
    ack_log = _promised(3)
    with valkey.client() as client:
        client.xadd(_TOPIC, {"data": _report(1)})
        client.xadd(_TOPIC, {"data": _report(1)})
    report = RunSummary(RunOutcome(ack_log, _seen(valkey, ack_log), settled=True, seconds=1.0), seed=0)
    assert report.lost_or_doubled
    assert [(row.fault, row.missing, row.doubled) for row in report.rows] == [
        ("nothing", 0, 0),
        ("redis-killed", 2, 1),
    ]


def test_a_slow_answer_and_one_that_never_came_fail_the_report() -> None:
    """2.1 s is too long, and so is never."""
    slow, silent = AckLog(), AckLog()
    slow.refuse(503, 2.1, slow.segment)
    silent.segment.unanswered += 1
    for ack_log in (slow, silent):
        nothing_wrong = Comparison(missing=[], doubled=[], strange=0, entries=0)
        outcome = RunOutcome(ack_log, nothing_wrong, settled=True, seconds=1.0)
        assert RunSummary(outcome, seed=0).slow
        assert not RunSummary(outcome, seed=0).lost_or_doubled


def test_a_spool_file_that_cannot_be_read_does_not_count_as_empty(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    assert count_spooled(tmp_path) == 0
    (tmp_path / "spool" / "000.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        count_spooled(tmp_path)
