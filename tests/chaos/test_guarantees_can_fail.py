"""A checker that cannot see a fault proves nothing: here it is shown faults made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.proving.campaign import Outcome
from receiver.proving.checker import Verdict, check
from receiver.proving.ledger import Ledger
from receiver.proving.processes import Valkey
from receiver.proving.report import Report

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


def _promised(count: int) -> Ledger:
    ledger = Ledger()
    segment = ledger.enter("redis-killed")
    ledger.acknowledge(ledger.draw(count), 0.01, segment)
    return ledger


def _seen(valkey: Valkey, ledger: Ledger) -> Verdict:
    with valkey.client() as client:
        return check(client, ledger)


async def test_what_is_right_is_found_right(valkey: Valkey) -> None:
    """Each of 5,000 promised events is there once, over several pages and two streams: nothing to say."""
    ledger = _promised(5000)
    with valkey.client() as client:
        for number in range(5000):
            client.xadd(_TOPIC if number % 2 else _TOPIC + "2", {"data": _report(number)})
    verdict = _seen(valkey, ledger)
    assert verdict.holds
    assert verdict.entries == 5000


async def test_an_entry_deleted_by_hand_is_missing(valkey: Valkey) -> None:
    """Exactly the deleted one is reported."""
    ledger = _promised(10)
    with valkey.client() as client:
        ids = [client.xadd(_TOPIC, {"data": _report(number)}) for number in range(10)]
        client.xdel(_TOPIC, ids[7])
    assert _seen(valkey, ledger).missing == [7]


async def test_an_entry_added_twice_by_hand_is_doubled(valkey: Valkey) -> None:
    """Exactly the doubled ones are reported, promised or refused, in the same stream or another."""
    ledger = _promised(10)
    refused = ledger.draw(1)[0]
    with valkey.client() as client:
        for number in [*range(10), 3, refused, refused]:
            client.xadd(_TOPIC, {"data": _report(number)})
        client.xadd(_TOPIC + "2", {"data": _report(5)})
    verdict = _seen(valkey, ledger)
    assert verdict.doubled == [3, 5, refused]
    assert verdict.missing == []


async def test_a_refused_event_may_be_there_or_not(valkey: Valkey) -> None:
    """A refusal promises nothing: an ambiguous publish may have stored it."""
    ledger = _promised(1)
    ledger.draw(2)
    with valkey.client() as client:
        client.xadd(_TOPIC, {"data": _report(0)})
        client.xadd(_TOPIC, {"data": _report(1)})
    assert _seen(valkey, ledger).holds


async def test_an_entry_that_nobody_sent_is_strange(valkey: Valkey) -> None:
    """It is no event of ours: the count says so."""
    ledger = _promised(1)
    with valkey.client() as client:
        for number in (0, 77):
            client.xadd(_TOPIC, {"data": _report(number)})
    assert _seen(valkey, ledger).strange == 1


async def test_the_report_blames_the_fault_and_fails(valkey: Valkey) -> None:
    """A missing event stands in the line of the fault during which it was sent, and the command's exit code is 1."""
    ledger = _promised(3)
    with valkey.client() as client:
        client.xadd(_TOPIC, {"data": _report(1)})
        client.xadd(_TOPIC, {"data": _report(1)})
    report = Report(Outcome(ledger, _seen(valkey, ledger), settled=True, seconds=1.0), seed=0)
    assert report.lost_or_doubled
    assert [(row.fault, row.missing, row.doubled) for row in report.rows] == [
        ("nothing", 0, 0),
        ("redis-killed", 2, 1),
    ]


def test_a_slow_answer_and_one_that_never_came_fail_the_report() -> None:
    """2.1 s is too long, and so is never."""
    slow, silent = Ledger(), Ledger()
    slow.refuse(503, 2.1, slow.segment)
    silent.segment.unanswered += 1
    for ledger in (slow, silent):
        outcome = Outcome(ledger, Verdict(missing=[], doubled=[], strange=0, entries=0), settled=True, seconds=1.0)
        assert Report(outcome, seed=0).slow
        assert not Report(outcome, seed=0).lost_or_doubled
