"""Our vocabulary, its wire form, and the event id.

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
    """What an event is about. The first three are the types that SMN routes to topics."""

    SUCCESS = "sms_success_event"  # the handset has the message
    FAIL = "sms_fail_event"  # the carrier gave up on it
    REPLY = "sms_reply_event"  # a person answered
    SENT = "sms_sent_event"  # on its way; only where a project asks for states that are not final
    REJECTED = "sms_rejected_event"  # an item that failed validation, kept with the reasons


#: The types that have a route; rejected events always go to the project's quarantine.
ROUTED: Final = (EventType.SUCCESS, EventType.FAIL, EventType.REPLY)

#: Status codes of SMN's ``Sms_report_data``: sent without a status yet, delivered, failed.
SENT, DELIVERED, FAILED = 0, 1, 2

# Sorted keys where the order carries no meaning, so that the same item has the same bytes and the same id.
_encoder = msgspec.json.Encoder(order="deterministic")


class ReportData(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``data`` of a report's event. What the provider does not tell is left out, never invented.

    ``status_desc`` is the most specific code of the cause; without one, the provider's own word for the state.
    ``sender`` is the number or name that the message came from, ``fee_num`` the number of its segments.
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
    of the message that the reply answers, where the provider tells.
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
    """``data`` of a rejected event: the item exactly as received, and why it was refused.

    ``item`` is the item's own JSON text; bytes that are not UTF-8 are in ``item_base64`` instead.
    """

    event_type: str
    reasons: list[str]
    item: str | msgspec.UnsetType = msgspec.UNSET
    item_base64: bytes | msgspec.UnsetType = msgspec.UNSET


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event before it has an id and a topic. ``data`` is its JSON; ``time`` is UTC, or None if unknown.

    ``identity`` is what the id is made of if it is not ``data``: for an item whose only time is that of the push, so
    that a retry has other data.
    """

    type: EventType
    time: str | None
    data: bytes
    identity: bytes | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What delivery handles: a stream's key, the 16 bytes of the event's id, and the value of field ``data``."""

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
    """Turns events of one provider and project into entries: gives each its id and its envelope."""

    def __init__(self, provider: str, project_id: str) -> None:
        source = f"/{provider}/{project_id}"
        self._salt = f"{project_id}\0{source}\0".encode()
        self._middle = {
            kind: f'","source":{_encoder.encode(source).decode()},"type":"{kind}","time":"'.encode()
            for kind in EventType
        }

    def build(self, event: Event, topic: str, received_ms: int) -> Entry:
        """Return the entry of an event that came at ``received_ms`` (milliseconds since the epoch).

        The id is the 128-bit BLAKE2b of project, source and data (or what stands for it, the event's ``identity``):
        it does not depend on when or where it is computed, so a provider's retry is recognised.
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
