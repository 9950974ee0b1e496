"""What the workers of one service know of each other: one record per worker, in memory that all of them share.

The supervisor creates the memory before it forks the workers (memfd_create). It belongs to no file system. A full disk
does not affect it, and a write that finds no memory raises OSError. A mapped file would end the process with SIGBUS.

A record survives its worker. Its counters are inherited by the next worker with the same number, so the sum over all
records never falls; its state and its gauges are removed.
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
#: Bytes of one version of a record. Only what is written occupies memory: a record has about 40 KB.
MAX_RECORD: Final = 4 << 20
_HEADER: Final = struct.Struct("<QII")


class State(msgspec.Struct, frozen=True):
    """The condition of one worker. A service without workers has one, number 1."""

    worker: int
    pid: int
    stopping: bool
    route: str
    takes_writes: bool
    spool_writable: bool
    spool_events: int
    spool_free_bytes: int
    #: Why the spool takes no events; None while it does.
    spool_reason: str | None = None

    @property
    def takes_events(self) -> bool:
        """Whether the worker can make events durable and goes on to."""
        return self.route != "refuse" and not self.stopping


class Sample(NamedTuple):
    """One value of a metric, as Prometheus names it."""

    metric: str
    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Report(msgspec.Struct):
    """What a worker publishes: its state, and its metrics to be added to those of the others."""

    state: State | None = None
    counters: list[Sample] = []
    gauges: list[Sample] = []
    #: Entries trimmed by age and at the hard cap, by topic.
    trimmed: dict[str, tuple[int, int]] = {}


_decoder: Final = msgspec.msgpack.Decoder(Report)


class _Version(NamedTuple):
    sequence: int
    half: int
    data: bytes


class SharedRecords:
    """Records by number, from 1, readable and writable by this process and those that it forks.

    One process at a time writes a record. Each record has two halves that are written in turn, so a reader always finds
    a whole version, even when a writer is killed in the middle of a write. No reader ever waits for a writer.
    """

    def __init__(self) -> None:
        try:
            self._descriptor = os.memfd_create("receiver-workers")
        except (AttributeError, OSError):  # not on Linux, or not allowed
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 it is open as long as the process lives
            self._descriptor = self._file.fileno()

    def numbers(self) -> range:
        """Return the numbers of all records that were ever written."""
        return range(1, -(-os.fstat(self._descriptor).st_size // (2 * MAX_RECORD)) + 1)

    def read(self, number: int) -> Report:
        """Return a record; an empty one when there is none."""
        version = self._newest(number)
        return _decoder.decode(version.data) if version.data else Report()

    def write(self, number: int, report: Report) -> None:
        """Replace a record. Raises OSError when it is too large, or memory is short."""
        data = msgspec.msgpack.encode(report)
        if _HEADER.size + len(data) > MAX_RECORD:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        newest = self._newest(number)
        sequence = newest.sequence + 1
        whole = _HEADER.pack(sequence, len(data), _checksum(sequence, data)) + data
        if os.pwrite(self._descriptor, whole, _offset(number, 1 - newest.half)) != len(whole):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def retire(self, number: int) -> None:
        """Keep of a worker that has ended only what it has counted. Raises OSError."""
        report = self.read(number)
        self.write(number, Report(counters=report.counters, trimmed=report.trimmed))

    def _newest(self, number: int) -> _Version:
        return max(self._version(number, half) for half in (0, 1))

    def _version(self, number: int, half: int) -> _Version:
        """Return what a half holds, with sequence 0 when it holds nothing or half of a write."""
        offset = _offset(number, half)
        header = os.pread(self._descriptor, _HEADER.size, offset)
        if len(header) == _HEADER.size:
            sequence, length, checksum = _HEADER.unpack(header)
            data = os.pread(self._descriptor, min(length, MAX_RECORD), offset + _HEADER.size)
            if _checksum(sequence, data) == checksum:
                return _Version(sequence, half, data)
        return _Version(0, half, b"")


class Peers:
    """The workers of a service, as one of them sees them. Without shared records it is alone."""

    def __init__(self, records: SharedRecords | None = None, number: int = 1) -> None:
        """Inherit what a worker with this number has counted before."""
        self.number = number
        self._records = records
        before = records.read(number) if records else Report()
        self._inherited = Report(counters=total(before.counters), trimmed=before.trimmed)

    def publish(self, report: Report) -> None:
        """Let the others read this worker's report. Raises OSError."""
        if self._records is not None:
            self._records.write(self.number, self._with_inherited(report))

    def reports(self, own: Report) -> list[Report]:
        """Return the report of each worker and, for this one, ``own``."""
        others = [] if self._records is None else [self._records.read(number) for number in self._others()]
        return [self._with_inherited(own), *others]

    def states(self, own: State) -> list[State]:
        """Return the state of each living worker and, for this one, ``own``."""
        return [own, *(report.state for report in self.reports(Report())[1:] if report.state is not None)]

    def _others(self) -> list[int]:
        return [] if self._records is None else [one for one in self._records.numbers() if one != self.number]

    def _with_inherited(self, report: Report) -> Report:
        counters = [*report.counters, *self._inherited.counters]
        trimmed = total_trimmed([report, self._inherited])
        return Report(report.state, counters, report.gauges, trimmed)


def worst(states: Iterable[State]) -> State:
    """Return the worst state: by its route, then by a disk that takes nothing, then by what waits on the disk."""
    return max(states, key=lambda state: (ROUTES.index(state.route), not state.spool_writable, state.spool_events))


def total(samples: Iterable[Sample]) -> list[Sample]:
    """Add the values of equal samples, in the order in which each came first."""
    values: defaultdict[tuple[str, str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
    for metric, name, labels, value in samples:
        values[metric, name, labels] += value
    return [Sample(*key, value) for key, value in values.items()]


def total_trimmed(reports: Iterable[Report]) -> dict[str, tuple[int, int]]:
    """Add the trimmed entries of workers, topic by topic."""
    sums: dict[str, tuple[int, int]] = {}
    for report in reports:
        for topic, (aged, unread) in report.trimmed.items():
            before = sums.get(topic, (0, 0))
            sums[topic] = before[0] + aged, before[1] + unread
    return sums


def _checksum(sequence: int, data: bytes) -> int:
    return zlib.crc32(data, sequence & 0xFFFFFFFF)


def _offset(number: int, half: int) -> int:
    return (2 * (number - 1) + half) * MAX_RECORD
