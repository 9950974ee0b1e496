"""What workers know of each other: whole records whatever happens to a writer, and counts that outlive their worker."""

from __future__ import annotations

import os

import pytest

from receiver.peers import MAX_RECORD, Peers, Sample, SharedRecords, WorkerReport, WorkerState, total, worst


def state(worker: int = 1, route: str = "redis", *, writable: bool = True, events: int = 0) -> WorkerState:
    """Return the state of a worker."""
    return WorkerState(worker, 100 + worker, False, route, route == "redis", writable, events, 10**9)  # noqa: FBT003 its third field is stopping


def acks(count: float) -> Sample:
    """Return so many acks, as a sample."""
    return Sample("receiver_callbacks", "receiver_callbacks_total", (("outcome", "ok"),), count)


def report(worker: int, count: float) -> WorkerReport:
    """Return what a worker with so many acks publishes."""
    return WorkerReport(state(worker), [acks(count)], [Sample("events", "events", (), 1)], {"topic": (1, 2)})


def test_a_record_is_read_by_a_process_that_was_forked():
    """And the other way round: the memory is one."""
    records = SharedRecords()
    records.write(2, report(2, 5))
    child = os.fork()
    if child == 0:
        records.write(3, records.read(2))
        os._exit(0)
    os.waitpid(child, 0)
    assert records.read(3) == records.read(2) == report(2, 5)
    assert (list(records.numbers()), records.read(1)) == ([1, 2, 3], WorkerReport())


@pytest.mark.parametrize("written", [0, 8, 12, 16, 17, 60])
def test_a_write_that_is_cut_short_leaves_the_version_before(written):
    """As when its worker is killed meanwhile."""
    records, later = SharedRecords(), SharedRecords()
    for number in range(1, 4):
        records.write(1, report(1, number))
        later.write(1, report(1, number))
    later.write(1, report(1, 4))
    half = MAX_RECORD  # where the fourth version goes
    torn = os.pread(later._descriptor, written, half)  # noqa: SLF001 there is no other way to write half of a record
    os.pwrite(records._descriptor, torn, half)  # noqa: SLF001 as above
    assert records.read(1) == report(1, 3)
    records.write(1, report(1, 5))
    assert records.read(1) == report(1, 5)


def test_a_record_that_is_too_large_is_an_error_and_changes_nothing():
    """Never a signal: a disk or a memory that is full must not end a worker."""
    records = SharedRecords()
    records.write(1, report(1, 1))
    with pytest.raises(OSError, match="too large"):
        records.write(1, WorkerReport(trimmed={"x" * MAX_RECORD: (1, 1)}))
    assert records.read(1) == report(1, 1)


def test_counts_outlive_their_worker_and_its_state_does_not():
    """The next worker with the number goes on from there, so a sum never falls."""
    records = SharedRecords()
    first, other = Peers(records, 1), Peers(records, 2)
    first.publish(report(1, 5))
    assert [one.worker for one in other.states(state(2))] == [2, 1]
    records.retire(1)
    assert [one.worker for one in other.states(state(2))] == [2]
    second = Peers(records, 1)
    second.publish(report(1, 3))
    reports = other.reports(report(2, 10))
    assert total(sample for one in reports for sample in one.counters) == [acks(18)]
    assert sum(len(one.gauges) for one in reports) == 2
    assert [one.trimmed for one in reports] == [{"topic": (1, 2)}, {"topic": (2, 4)}]


def test_a_record_does_not_grow_with_the_workers_that_had_it():
    """However often a worker is replaced."""
    records = SharedRecords()
    for _ in range(50):
        Peers(records, 1).publish(report(1, 1))
        records.retire(1)
    assert len(records.read(1).counters) <= 2
    assert total(records.read(1).counters) == [acks(50)]


def test_the_worst_state_is_decided_by_route_then_disk_then_backlog():
    """By what hurts most."""
    states = [state(1), state(2, events=5), state(3, writable=False), state(4, "spool"), state(5, "refuse")]
    for best in range(len(states)):
        assert worst(states[: best + 1]) == states[best]
        assert worst(reversed(states[: best + 1])) == states[best]
