"""The index of status reports, which answers ListSmsMsgReport.

https://support.huaweicloud.com/api-smn/ ListSmsMsgReport.
The docstring of this package lists the keys in Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from receiver.lookups.indexed_projects import IndexedProjects
from receiver.lookups.scripts import LATEST, project_key, script
from receiver.phone_numbers import canonical, digits_of, readings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.redis_client import Client

#: How long reports are kept by default, and the longest retention in SMN's documents.
RETENTION: Final = timedelta(days=7)
LONGEST_RETENTION: Final = timedelta(days=92)
#: The longest page.
MAX_LIMIT: Final = 100

_CHUNK: Final = 250  # reports in a script call, which blocks Redis for some 5 ms
_SIGNS: Final = 100  # signatures in a script call: 1 to 2 ms when none has old reports
_CALLS: Final = 40  # script calls of one project in a row: a project with many signatures takes several turns
_ANY_STATUS: Final = "012"
_RECIPIENT: Final = b"\0\xff"
_FIRST: Final = b"0"  # the cursor before the first signature, and after the last one


class Status(NamedTuple):
    """A status event of one message. Times are milliseconds since the epoch.

    ``status`` is 1 (delivered), 2 (failed), or 0 for a state that is not final; ``deliver_time`` is when it came, also
    of status 0. Texts are never empty: what the provider does not send is None. ``shared_id``: other
    recipients of the same request have this ``message_id`` too.
    The order of the fields is that of a record (record.lua).
    """

    message_id: str
    status: int
    deliver_time: int
    status_desc: str | None = None
    sign_id: str | None = None
    fee_num: int | None = None
    extend_code: str | None = None
    submit_time: int | None = None
    nation_code: str | None = None
    mobile: str | None = None
    shared_id: bool = False


class Report(NamedTuple):
    """One element of a ListSmsMsgReport answer. Times are milliseconds since the epoch, None if unknown.

    ``nation_code`` and ``mobile`` are country code and national number, independent of the original spelling.
    """

    message_id: str
    status: int
    sign_id: str | None
    status_desc: str | None
    fee_num: int | None
    extend_code: str | None
    nation_code: str | None
    mobile: str | None
    submit_time: int | None
    deliver_time: int | None


class ReportAbout(NamedTuple):
    """A report, and when the last state of its message came; None if no callback about the message has come."""

    report: Report
    came: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """Selects reports. Times are milliseconds since the epoch, both inclusive; None means any.

    ``mobile`` may have any spelling (phone_numbers.py).
    The time of a report is its ``deliver_time``, or its ``submit_time`` while its status is 0.
    """

    sign_id: str | None
    start_ms: int
    end_ms: int
    message_id: str | None = None
    mobile: str | None = None
    status: int | None = None
    offset: int = 0
    limit: int = MAX_LIMIT

    def __post_init__(self) -> None:
        """Refuse values that would make the script unbounded, or that the script would misread."""
        if not 1 <= self.limit <= MAX_LIMIT or self.offset < 0:
            raise ValueError(f"limit must be 1 to {MAX_LIMIT} and offset not negative, see SMN.0015")
        if self.status not in {None, 0, 1, 2}:
            raise ValueError("status must be 0, 1 or 2, see SMN.0077")


class Reports:
    """Stores, finds and expires status reports. Raises the errors of redis-py (``RedisError``)."""

    def __init__(self, redis: Client, retention: timedelta = RETENTION, replicas: int = 0) -> None:
        """``decode_responses`` of the client must be off.

        Queries do not return reports older than ``retention``; ``expire`` frees their memory. ``replicas``: how many
        must have what is applied.
        """
        if not timedelta(0) < retention <= LONGEST_RETENTION:
            raise ValueError(f"retention must be more than 0 and at most {LONGEST_RETENTION.days} days")
        self._retention_ms = retention // timedelta(milliseconds=1)
        self._apply = script(redis, "apply", replicas=replicas)
        self._find = script(redis, "find")
        self._about = script(redis, "about")
        self._expire = script(redis, "expire")
        self._indexed = IndexedProjects(redis)
        self._cursors: dict[str, bytes] = {}  # where the next turn of a project begins

    async def apply(self, project_id: str, statuses: Sequence[Status]) -> int:
        """Apply status events. Return how many changed a record.

        Any order and any repetition end in the same state: a final status wins over status 0, then the later
        ``deliver_time``, of equal ones delivered over failed, then the greater ``status_desc``. After an error, apply
        all of them again.
        """
        await self._indexed.note(project_id)
        changed = 0
        for start in range(0, len(statuses), _CHUNK):
            chunk = msgspec.msgpack.encode([_row(status) for status in statuses[start : start + _CHUNK]])
            changed += await self._apply([project_key(project_id)], [chunk])
        return changed

    async def find(self, project_id: str, query: ReportQuery, default_sign_id: str | None = None) -> list[Report]:
        """Return one page, newest first, equal times by descending ``message_id`` (byte order).

        ``default_sign_id`` is the project's current default. Reports without a signature of their own have it.
        """
        start, end = max(query.start_ms, 0), min(query.end_ms, LATEST)
        if start > end or "" in {query.mobile, query.message_id}:
            return []
        arguments: list[str | int] = [
            start,
            end,
            query.offset,
            query.limit,
            _ANY_STATUS if query.status is None else str(query.status),
            query.mobile or "",
            query.message_id or "",
            query.sign_id or "",
            int((query.sign_id or None) == (default_sign_id or None)),
            self._retention_ms,
        ]
        numbers = msgspec.msgpack.encode(readings(query.mobile) if query.mobile else ())
        flat: list[bytes] = await self._find([project_key(project_id)], [*arguments, numbers])
        sign_id = query.sign_id or None
        return [_report(flat[i], flat[i + 1], sign_id) for i in range(0, len(flat), 2)]

    async def about(
        self, project_id: str, text: str, default_sign_id: str | None = None, limit: int = MAX_LIMIT
    ) -> list[ReportAbout]:
        """Return the newest reports whose ``message_id`` or phone number a text is, whatever their signature."""
        numbers = msgspec.msgpack.encode(readings(text) if digits_of(text) else ())
        flat: list[bytes] = await self._about([project_key(project_id)], [text, numbers, limit])
        return [
            ReportAbout(_report(id_, record, sign.decode() or default_sign_id), msgspec.msgpack.decode(record)[2])
            for id_, record, sign in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]

    async def expire(self, limit: int = 5000) -> int:
        """Remove up to about ``limit`` reports that are older than the retention. Return how many.

        Call it every few seconds, and again at once while it returns ``limit``. No single step blocks Redis for more
        than some milliseconds, however many signatures there are.
        """
        removed = 0
        for project_id in await self._indexed.all():
            if removed < limit:
                removed += await self._expire_some(project_id, limit - removed)
        return removed

    async def _expire_some(self, project_id: str, limit: int) -> int:
        cursor, removed = self._cursors.get(project_id, _FIRST), 0
        for _ in range(_CALLS):
            arguments = (self._retention_ms, _CHUNK, cursor, _SIGNS)
            forgotten, cursor = await self._expire([project_key(project_id)], arguments)
            removed += forgotten
            if removed >= limit or (cursor == _FIRST and forgotten < _CHUNK):
                break
        self._cursors[project_id] = cursor
        return removed


def _row(status: Status) -> Status | tuple[Any, ...]:
    """Return a status as apply.lua takes it, with its number in canonical form."""
    if status.mobile is None:
        return status
    number = canonical(status.nation_code, status.mobile)
    return status if number[1] is status.mobile else (*status[:8], *number, status.shared_id)


def _report(report_id: bytes, record: bytes, sign_id: str | None) -> Report:
    fields: list[Any] = msgspec.msgpack.decode(record)
    _, status, deliver, desc, _, fee, extend, submit, nation, mobile = fields
    came = deliver if status else None
    return Report(_message_id(report_id), status, sign_id, desc, fee, extend, nation, mobile, submit, came)


def _message_id(report_id: bytes) -> str:
    """Return the ``message_id`` of a report: what stands before its recipient, where it has one (record.lua)."""
    return report_id.partition(_RECIPIENT)[0].decode()
