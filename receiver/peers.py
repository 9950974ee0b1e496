"""State and metrics that the workers of one service share: one record per worker and one of the supervisor's.

They are in shared memory, which the supervisor creates (memfd_create) before it forks the workers. No file system is
involved, so a full disk does not matter. A write without free memory raises OSError; a mapped file would end the
process with SIGBUS.

A record outlives its worker. The next worker with the same number inherits the counters, so the sum over all records
never falls. State and gauges are removed.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where events go, from best to worst.
ROUTES: Final = ("redis", "spool", "refuse")
#: Largest version of a record, in bytes. Only written bytes occupy memory: a record has about 40 KB.
MAX_RECORD: Final = 4 << 20
#: The number of the supervisor's record.
SUPERVISOR: Final = 0
_HEADER: Final = struct.Struct("<QII")


class WorkerState(msgspec.Struct, frozen=True):
    """The state of one worker. A single process is worker 1."""

    worker: int
    pid: int
    stopping: bool
    route: str
    takes_writes: bool
    spool_writable: bool
    spool_events: int
    spool_free_bytes: int
    #: Whether each primary takes writes, by name.
    primaries: dict[str, bool] = {}
    #: Why the spool accepts no events; None while it does.
    spool_reason: str | None = None
    spool_bytes: int = 0
    #: Events and bytes in spool files of ended workers. All workers see the same files.
    unowned_events: int = 0
    unowned_bytes: int = 0
    #: When it started, in seconds since the epoch.
    started_at: float = 0.0
    #: What the indexers have read, by outcome. It is counted in Redis, so all workers see the same.
    index_entries: dict[str, int] = {}

    @property
    def takes_events(self) -> bool:
        """Whether the worker can make events durable and is not stopping."""
        return self.route != "refuse" and not self.stopping


class Sample(NamedTuple):
    """One sample of a metric, with Prometheus' names."""

    metric: str
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class WorkerReport(msgspec.Struct):
    """A worker's state, and its metrics, which are summed with those of the others."""

    state: WorkerState | None = None
    counters: list[Sample] = []
    gauges: list[Sample] = []
    #: Entries trimmed by age and at the hard cap, by topic.
    trimmed: dict[str, tuple[int, int]] = {}


class _OnlyState(msgspec.Struct):
    state: WorkerState | None = None


_decoder: Final = msgspec.msgpack.Decoder(WorkerReport)
#: Skips the metrics, of which there may be thousands.
_state_decoder: Final = msgspec.msgpack.Decoder(_OnlyState)


class _Version(NamedTuple):
    sequence: int
    half: int
    data: bytes


class SharedRecords:
    """Records by number, those of workers from 1, shared by this process and its forks.

    Only one process at a time writes a given record. A record has two halves, written alternately, so that readers
    always find a complete version, even after a writer was killed during a write. Readers never wait for a writer.
    """

    def __init__(self) -> None:
        try:
            self._descriptor = os.memfd_create("receiver-workers")
        except (AttributeError, OSError):  # not on Linux, or not allowed
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 stays open as long as the process runs
            self._descriptor = self._file.fileno()

    def numbers(self) -> range:
        """Return the numbers of all workers' records written so far."""
        return range(1, -(-os.fstat(self._descriptor).st_size // (2 * MAX_RECORD)))

    def read(self, number: int) -> WorkerReport:
        """Return a record, or an empty one if none was written."""
        version = self._newest(number)
        return _decoder.decode(version.data) if version.data else WorkerReport()

    def read_state(self, number: int) -> WorkerState | None:
        """Return the state in a record, if it has one."""
        version = self._newest(number)
        return _state_decoder.decode(version.data).state if version.data else None

    def write(self, number: int, report: WorkerReport) -> None:
        """Replace a record. Raises OSError if it is too large or no memory is free."""
        data = msgspec.msgpack.encode(report)
        if _HEADER.size + len(data) > MAX_RECORD:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        newest = self._newest(number)
        sequence = newest.sequence + 1
        whole = _HEADER.pack(sequence, len(data), _checksum(sequence, data)) + data
        if os.pwrite(self._descriptor, whole, _offset(number, 1 - newest.half)) != len(whole):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def retire(self, number: int) -> None:
        """Reduce the record of a worker that has ended to its counters. Raises OSError."""
        report = self.read(number)
        self.write(number, WorkerReport(counters=report.counters, trimmed=report.trimmed))

    def _newest(self, number: int) -> _Version:
        """Return the newest complete version; sequence 0 if there is none. The other half is read only if it has to."""
        headers = [(*self._header(number, half), half) for half in (0, 1)]
        for sequence, length, checksum, half in sorted(headers, reverse=True):
            data = os.pread(self._descriptor, min(length, MAX_RECORD), _offset(number, half) + _HEADER.size)
            if sequence and _checksum(sequence, data) == checksum:
                return _Version(sequence, half, data)
        return _Version(0, 1, b"")

    def _header(self, number: int, half: int) -> tuple[int, int, int]:
        """Return sequence, length and checksum of a version; zeros if it is missing or incomplete."""
        header = os.pread(self._descriptor, _HEADER.size, _offset(number, half))
        return _HEADER.unpack(header) if len(header) == _HEADER.size else (0, 0, 0)


class Peers:
    """The other workers, from the view of one. Without shared records there are none."""

    def __init__(self, records: SharedRecords | None = None, number: int = 1) -> None:
        """Inherit the counters of the previous worker with this number."""
        self.number = number
        self._records = records
        before = records.read(number) if records else WorkerReport()
        self._inherited = WorkerReport(counters=total(before.counters), trimmed=before.trimmed)

    def publish(self, report: WorkerReport) -> None:
        """Publish this worker's report to the others. Raises OSError."""
        if self._records is not None:
            self._records.write(self.number, self._with_inherited(report))

    def reports(self, own: WorkerReport) -> list[WorkerReport]:
        """Return the reports of all workers, with ``own`` for this one, and that of the supervisor if it has one."""
        others = [] if self._records is None else [self._records.read(number) for number in self._others()]
        supervisor = WorkerReport() if self._records is None else self._records.read(SUPERVISOR)
        return [self._with_inherited(own), *others, *([supervisor] if supervisor.counters else [])]

    def states(self, own: WorkerState) -> list[WorkerState]:
        """Return the states of all living workers, with ``own`` for this one."""
        records = self._records
        others = [] if records is None else [records.read_state(number) for number in self._others()]
        return [own, *(state for state in others if state is not None)]

    def _others(self) -> list[int]:
        return [] if self._records is None else [number for number in self._records.numbers() if number != self.number]

    def _with_inherited(self, report: WorkerReport) -> WorkerReport:
        counters = [*report.counters, *self._inherited.counters]
        trimmed = total_trimmed([report, self._inherited])
        return WorkerReport(report.state, counters, report.gauges, trimmed)


def worst(states: Iterable[WorkerState]) -> WorkerState:
    """Return the worst state: by route, then by an unwritable spool, then by the events in the spool."""
    return max(states, key=lambda state: (ROUTES.index(state.route), not state.spool_writable, state.spool_events))


def unowned_of(states: Iterable[WorkerState]) -> WorkerState:
    """Return the state that has seen the most events in files of ended workers: another one may drain them just now."""
    return max(states, key=lambda state: (state.unowned_events, state.unowned_bytes))


def total(samples: Iterable[Sample]) -> list[Sample]:
    """Sum the values of samples with the same name and labels, in the order of first occurrence."""
    values: defaultdict[tuple[str, str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
    for metric, name, labels, value in samples:
        values[metric, name, labels] += value
    return [Sample(*key, value) for key, value in values.items()]


def total_trimmed(reports: Iterable[WorkerReport]) -> dict[str, tuple[int, int]]:
    """Sum the trimmed entries of all workers by topic."""
    sums: dict[str, tuple[int, int]] = {}
    for report in reports:
        for topic, (aged, unread) in report.trimmed.items():
            before = sums.get(topic, (0, 0))
            sums[topic] = before[0] + aged, before[1] + unread
    return sums


def _checksum(sequence: int, data: bytes) -> int:
    return zlib.crc32(data, sequence & 0xFFFFFFFF)


def _offset(number: int, half: int) -> int:
    return (2 * number + half) * MAX_RECORD
