"""The event vocabulary, its wire format, and the event id.

An event travels as a CloudEvents 1.0 event in structured JSON (https://cloudevents.io), in one field ``data``
of a Redis stream entry. Its ``data`` uses the names of Huawei Cloud SMN's SMS events.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from time import gmtime, strftime
from typing import Any, Final

import msgspec


class EventType(StrEnum):
    """The type of an event. The first three are the types that SMN routes to topics."""

    SUCCESS = "sms_success_event"  # the handset has received the message
    FAIL = "sms_fail_event"  # delivery has failed for good
    REPLY = "sms_reply_event"  # a person sent a message
    SENT = "sms_sent_event"  # a state that is not final; only for projects with the option ``pending``
    REJECTED = "sms_rejected_event"  # an item that failed validation, with the reasons


#: The types that have a configurable route.
ROUTED: Final = (EventType.SUCCESS, EventType.FAIL, EventType.REPLY)

#: Status codes of SMN's ``Sms_report_data``: sent (no final status yet), delivered, failed.
SENT, DELIVERED, FAILED = 0, 1, 2

# Sorted keys, so that the same item always has the same bytes and the same id.
_encoder = msgspec.json.Encoder(order="deterministic")


class ReportData(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``data`` of a status report event. Fields that the provider does not send are absent.

    ``status_desc`` is the most specific error code, or the provider's name for the state. ``sender`` is the number or
    name that the message was sent from, ``fee_num`` the number of its segments.
    """

    event_type: str
    message_id: str
    status: int
    status_desc: str
    description: str | msgspec.UnsetType = msgspec.UNSET
    nation_code: str | msgspec.UnsetType = msgspec.UNSET
    mobile: str | msgspec.UnsetType = msgspec.UNSET
    deliver_time: str | msgspec.UnsetType = msgspec.UNSET
    session_context: Any = msgspec.UNSET
    submit_time: str | msgspec.UnsetType = msgspec.UNSET
    fee_num: int | msgspec.UnsetType = msgspec.UNSET
    sender: str | msgspec.UnsetType = msgspec.UNSET
    sign_id: str | msgspec.UnsetType = msgspec.UNSET
    extend_code: str | msgspec.UnsetType = msgspec.UNSET
    extra: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class ReplyData(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``data`` of a reply event.

    ``extend_code`` is the number, or the part of it, that the person wrote to. ``in_reply_to`` is the ``message_id``
    of the message that the reply answers, if the provider sends it.
    """

    event_type: str
    reply: str
    sign: str | msgspec.UnsetType = msgspec.UNSET
    sign_id: str | msgspec.UnsetType = msgspec.UNSET
    extend_code: str | msgspec.UnsetType = msgspec.UNSET
    nation_code: str | msgspec.UnsetType = msgspec.UNSET
    mobile: str
    deliver_time: str | msgspec.UnsetType = msgspec.UNSET
    in_reply_to: str | msgspec.UnsetType = msgspec.UNSET
    extra: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class RejectedData(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``data`` of a rejected event: the item exactly as received, and the reasons.

    ``item`` is the item's own text. An item that is not UTF-8 is in ``item_base64`` instead.
    """

    event_type: str
    reasons: list[str]
    item: str | msgspec.UnsetType = msgspec.UNSET
    item_base64: bytes | msgspec.UnsetType = msgspec.UNSET


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event without id and topic. ``data`` is its JSON; ``time`` is UTC, or None if unknown.

    The id is computed from ``identity`` if given, else from ``data``. It is given for items whose data differs between
    retries, for example by the time of the push.
    """

    type: EventType
    time: str | None
    data: bytes
    identity: bytes | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A stream entry to be stored: the stream's key, the event's id (16 bytes), and the value of field ``data``."""

    topic: str
    id: bytes
    data: bytes


def encode(data: msgspec.Struct) -> bytes:
    """Return the canonical JSON of an event's ``data``: the same value always gives the same bytes."""
    return _encoder.encode(data)


@lru_cache(maxsize=4096)
def utc(seconds: int) -> str:
    """Return ``2015-10-17T00:03:04Z`` for seconds since the epoch."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))


@lru_cache(maxsize=2)
def _stamp(milliseconds: int) -> bytes:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{utc(seconds)[:-1]}.{rest:03d}Z".encode()


class EnvelopeBuilder:
    """Turns events of one provider and project into entries with id and envelope."""

    def __init__(self, provider: str, project_id: str) -> None:
        source = f"/{provider}/{project_id}"
        self._salt = f"{project_id}\0{source}\0".encode()
        self._middle = {
            event_type: f'","source":{_encoder.encode(source).decode()},"type":"{event_type}","time":"'.encode()
            for event_type in EventType
        }

    def build(self, event: Event, topic: str, received_ms: int) -> Entry:
        """Return the entry of an event received at ``received_ms`` (milliseconds since the epoch).

        The id is the 128-bit BLAKE2b hash of project, source and data (or the event's ``identity``). It does not depend
        on when and where it is computed, so a provider's retry gets the same id.
        """
        received = _stamp(received_ms)
        digest = blake2b(self._salt + (event.identity or event.data), digest_size=16)
        wire = b'{"specversion":"1.0","id":"%b%b%b","receivedtime":"%b","data":%b}' % (
            digest.hexdigest().encode(),
            self._middle[event.type],
            received if event.time is None else event.time.encode(),
            received,
            event.data,
        )
        return Entry(topic, digest.digest(), wire)
