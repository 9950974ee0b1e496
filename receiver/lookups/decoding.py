"""Decodes stream entries to status events: bytes in, values out."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct

from receiver.events import STATUS_DELIVERED, STATUS_FAILED, STATUS_PENDING, EventType
from receiver.lookups.reports import Status
from receiver.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Mapping

Identifier = Annotated[str, Meta(min_length=1, max_length=128)]
Mobile = Annotated[str, Meta(max_length=64)]  # the index stores its length in one byte
Fee = Annotated[int, Meta(ge=0, le=1_000_000)]  # more than any text costs, and far less than 64 bits hold
Instant = Annotated[datetime, Meta(tz=True)]
#: How far ahead of its entry the time of a status may be: a day covers every mistaken zone and most wrong clocks.
_MAX_AHEAD_MS: Final = timedelta(days=1) // timedelta(milliseconds=1)
#: A value that msgspec quotes.
_VALUE: Final = re.compile(r"'.*'", re.DOTALL)


class _Data(Struct):
    """The fields of ``data`` that lookups use. All but the id may be missing."""

    message_id: Identifier
    status_desc: str | None = None
    sign_id: str | None = None
    fee_num: Fee | None = None
    extend_code: str | None = None
    submit_time: Instant | None = None
    nation_code: str | None = None
    mobile: Mobile | None = None
    deliver_time: Instant | None = None


class _Success(Struct, tag_field="type", tag=EventType.SUCCESS.value):
    source: str
    time: Instant
    data: _Data


class _Fail(Struct, tag_field="type", tag=EventType.FAIL.value):
    source: str
    time: Instant
    data: _Data


class _Sent(Struct, tag_field="type", tag=EventType.SENT.value):
    source: str
    time: Instant
    data: _Data


_Event = _Success | _Fail | _Sent


class _Reply(Struct, tag_field="type", tag=EventType.REPLY.value):
    """SMN's replies have no message_id, so the index skips them."""


class _Rejected(Struct, tag_field="type", tag=EventType.REJECTED.value):
    """An item that failed validation: the index skips it."""


_decoder = msgspec.json.Decoder(_Event | _Reply | _Rejected)
_STATUSES: Final = {_Success: STATUS_DELIVERED, _Fail: STATUS_FAILED, _Sent: STATUS_PENDING}
#: Of events of providers whose recipients share the id of their request, what stands before the project.
_SHARED_IDS: Final = frozenset(f"/{name}" for name, provider in PROVIDERS.items() if provider.shared_ids)


class UndecodableError(Exception):
    """The entry is not one of our events, or lacks what the index needs. A retry does not help.

    The message is for the log: it names the field and the rule, and quotes nothing from the entry.
    """


def status_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> tuple[str, Status] | None:
    """Return the project and the status event of a stream entry, or None for a reply or a rejected event.

    Raises UndecodableError for anything else.
    """
    try:
        event = _decoder.decode(fields[b"data"])
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # msgspec has no errors of its own for invalid UTF-8 and for values that are nested too deeply.
        raise UndecodableError(_reason(error)) from error
    if isinstance(event, _Reply | _Rejected):
        return None
    provider, _, project_id = event.source.rpartition("/")
    if not project_id:
        raise UndecodableError("the source names no project")
    return project_id, _status(event, int(entry_id.partition(b"-")[0]), shared_id=provider in _SHARED_IDS)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "no field data"
    if isinstance(error, msgspec.MsgspecError):
        return _VALUE.sub("'…'", str(error))
    return type(error).__name__


def _status(event: _Event, added_ms: int, *, shared_id: bool) -> Status:
    data = event.data
    status = _STATUSES[type(event)]
    submitted = None if data.submit_time is None else _milliseconds(data.submit_time)
    if submitted is not None and status == STATUS_PENDING and submitted - added_ms > _MAX_AHEAD_MS:
        submitted = None  # it would be the time of the report, as in _when
    return Status(
        data.message_id,
        status,
        _when(event, added_ms),
        data.status_desc or None,
        data.sign_id or None,
        data.fee_num,
        data.extend_code or None,
        submitted,
        data.nation_code or None,
        data.mobile or None,
        shared_id,
    )


def _when(event: _Event, added_ms: int) -> int:
    """Return when the status came, or was received where the provider sends no time.

    A status from the future would never expire, and would win over every later one. The id of the entry is the
    reference: Redis' clock made it, while ``receivedtime`` is made by the clock of a receiver.
    """
    reported = _milliseconds(event.data.deliver_time or event.time)
    return added_ms if reported - added_ms > _MAX_AHEAD_MS else reported


def _milliseconds(instant: datetime) -> int:
    # A time before 1970 comes from a broken clock, and the index stores no sign.
    return max(0, round(instant.timestamp() * 1000))
