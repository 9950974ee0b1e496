"""The event vocabulary, its wire format, and the event id.

An event travels as a CloudEvents 1.0 event in structured JSON (https://cloudevents.io), in one field ``data``
of a Redis stream entry. Its ``data`` uses the names of Huawei Cloud SMN's SMS events.
"""

from __future__ import annotations

import re
from binascii import hexlify
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from time import gmtime, strftime
from typing import Annotated, Any, Final

import msgspec


class EventType(StrEnum):
    """The type of an event. Every project has the first three, which are SMN's."""

    SUCCESS = "sms_success_event"  # the handset has received the message
    FAIL = "sms_fail_event"  # delivery has failed for good
    REPLY = "sms_reply_event"  # a person sent a message
    SENT = "sms_sent_event"  # a state that is not final; only for projects with the option ``pending``
    REJECTED = "sms_rejected_event"  # an item that failed validation, with the reasons


#: The types that may have a route; rejected events always go to the project's quarantine. SENT has one only where a
#: project publishes states that are not final: ``ProjectRoutes.types``.
ROUTED: Final = (EventType.SUCCESS, EventType.FAIL, EventType.REPLY, EventType.SENT)

#: Values of ``status`` in SMN's ``Sms_report_data``: not final yet (SMN says sent), delivered, failed.
STATUS_PENDING, STATUS_DELIVERED, STATUS_FAILED = 0, 1, 2

# Sorted keys, so that the same item always has the same bytes and the same id.
_encoder = msgspec.json.Encoder(order="deterministic")


#: The description of a field in the published schema. Encoding checks none of it.
_Meta = msgspec.Meta
_Text = str | msgspec.UnsetType


class ReportData(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``data`` of a status report event. Fields that the provider does not send are absent.

    ``status_desc`` is the most specific error code, or the provider's name for the state. ``sender`` is the number or
    name that the message was sent from, ``fee_num`` the number of its segments.
    """

    event_type: Annotated[str, _Meta(description="As the event's `type`.")]
    message_id: Annotated[
        str,
        _Meta(
            description="The provider's id of the message. At some providers the recipients of one request share it: "
            "then it names a message together with `mobile`."
        ),
    ]
    status: Annotated[int, _Meta(description="0: not final, 1: delivered, 2: failed.")]
    status_desc: Annotated[
        str, _Meta(description="The most specific code of the cause, else the provider's word for the state.")
    ]
    description: Annotated[_Text, _Meta(description="The provider's description in words.")] = msgspec.UNSET
    nation_code: Annotated[_Text, _Meta(description="Country calling code, without `+`.")] = msgspec.UNSET
    mobile: Annotated[_Text, _Meta(description="The recipient's number, as the provider spells it.")] = msgspec.UNSET
    deliver_time: Annotated[
        _Text,
        _Meta(description="When the status came, UTC; of a final one alone. Without it, the event's `time` is all."),
    ] = msgspec.UNSET
    session_context: Annotated[
        Any, _Meta(description="Any value that the sender gave the provider for its reports.")
    ] = msgspec.UNSET
    submit_time: Annotated[_Text, _Meta(description="When the message was sent, UTC.")] = msgspec.UNSET
    fee_num: Annotated[int | msgspec.UnsetType, _Meta(description="Segments of the message.")] = msgspec.UNSET
    sender: Annotated[_Text, _Meta(description="The number or name that it came from.")] = msgspec.UNSET
    sign_id: Annotated[_Text, _Meta(description="Id of the signature.")] = msgspec.UNSET
    extend_code: Annotated[_Text, _Meta(description="Extension code of the channel.")] = msgspec.UNSET
    extra: Annotated[
        dict[str, Any] | msgspec.UnsetType, _Meta(description="Other fields of the provider, under its names.")
    ] = msgspec.UNSET


class ReplyData(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``data`` of a reply event.

    ``extend_code`` is the number, or the part of it, that the person wrote to. ``in_reply_to`` is the ``message_id``
    of the message that the reply answers, if the provider sends it.
    """

    event_type: Annotated[str, _Meta(description="As the event's `type`.")]
    reply: Annotated[str, _Meta(description="What the person wrote.")]
    sign: Annotated[_Text, _Meta(description="The signature that the person answered to.")] = msgspec.UNSET
    sign_id: Annotated[_Text, _Meta(description="Its id: the project's own.")] = msgspec.UNSET
    extend_code: Annotated[_Text, _Meta(description="The number, or the part of it, that the person wrote to.")] = (
        msgspec.UNSET
    )
    nation_code: Annotated[_Text, _Meta(description="Country calling code, without `+`.")] = msgspec.UNSET
    mobile: Annotated[str, _Meta(description="The person's number, as the provider spells it.")]
    deliver_time: Annotated[
        _Text, _Meta(description="When it was written or received, UTC. Without it, the event's `time` is all.")
    ] = msgspec.UNSET
    in_reply_to: Annotated[_Text, _Meta(description="The `message_id` of the message that it answers.")] = msgspec.UNSET
    extra: Annotated[
        dict[str, Any] | msgspec.UnsetType, _Meta(description="Other fields of the provider, under its names.")
    ] = msgspec.UNSET


class RejectedData(msgspec.Struct, omit_defaults=True, kw_only=True):
    """``data`` of a rejected event: the item exactly as received, and the reasons.

    ``item`` is the item's own text. An item that is not UTF-8 is in ``item_base64`` instead.
    """

    event_type: Annotated[str, _Meta(description="As the event's `type`.")]
    reasons: Annotated[list[str], _Meta(description="What is wrong, each with its place.")]
    item: Annotated[
        _Text, _Meta(description="The item as received: JSON, the parameters of a form or query, or an envelope.")
    ] = msgspec.UNSET
    item_base64: Annotated[
        bytes | msgspec.UnsetType, _Meta(description="The item in place of `item`, where it is not UTF-8.")
    ] = msgspec.UNSET


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event without id and topic. ``data`` is its JSON; ``time`` is UTC, or None if unknown.

    The id is computed from ``identity`` if given, else from ``data``. It is given for items whose data differs between
    retries: by the time of the push or, in a rejected item, by its counters and its envelope. ``code`` is the
    ``status_desc`` of a report, which metrics count.
    """

    type: EventType
    time: str | None
    data: bytes
    identity: bytes | None = None
    code: str | None = None


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


@lru_cache(maxsize=4096)
def seconds_of_utc(text: str) -> int:
    """Return the seconds since the epoch of such a text."""
    return int(datetime.fromisoformat(text).timestamp())


@lru_cache(maxsize=2)
def _stamp(milliseconds: int) -> bytes:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{utc(seconds)[:-1]}.{rest:03d}Z".encode()


#: What the envelope of a replay has, behind its id.
REPLAY_OF: Final = b'"replayof":"'
#: The beginning of an envelope, with the event's id.
_HEAD: Final = re.compile(rb'\{"specversion":"1\.0","id":"([0-9a-f]{32})",')


def replay(data: bytes, topic: str, name: str) -> Entry | None:
    """Return the entry that publishes an event again, or None for what is not an event of ours, or a replay itself.

    It has a new id, so that consumers take it for a new event, and two extension attributes of CloudEvents:
    ``replayof`` is the id of the original, ``replayname`` the ``name``. The new id is a hash of both, so a replay that
    is repeated under its name adds nothing twice within the dedupe window.
    """
    head = _HEAD.match(data)
    if head is None or data.startswith(REPLAY_OF, head.end()):
        return None
    digest = _replay_id(name, head[1])
    attributes = b'%b%b","replayname":"%b",' % (REPLAY_OF, head[1], name.encode())
    wire = b'{"specversion":"1.0","id":"%b",%b%b' % (digest.hex().encode(), attributes, data[head.end() :])
    return Entry(topic, digest, wire)


def give_back(data: bytes, topic: str, put_aside: str) -> Entry | None:
    """Return the entry that publishes a dead letter again, unchanged, or None for what is not an event of ours.

    Its id is the event's own, by which consumers that have handled it recognise it. The dedupe knows it under a hash of
    this id and ``put_aside``, the entry that it was. So it is added once, however many groups had put that entry aside,
    and once more when it has failed again, as another entry.
    """
    head = _HEAD.match(data)
    return None if head is None else Entry(topic, _replay_id(f"dead\0{put_aside}", head[1]), data)


def _replay_id(name: str, event_id: bytes) -> bytes:
    return blake2b(b"replay\0%b\0%b" % (name.encode(), event_id), digest_size=16).digest()


def with_traceparent(entry: Entry, traceparent: bytes) -> Entry:
    """Return an entry whose envelope has a ``traceparent``, an extension attribute of CloudEvents. Its id is the same.

    https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md
    """
    attributes, data, rest = entry.data.partition(b',"data":')  # no attribute of ours holds these bytes
    return Entry(entry.topic, entry.id, b'%b,"traceparent":"%b"%b%b' % (attributes, traceparent, data, rest))


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
        id_ = blake2b(self._salt + (event.identity or event.data), digest_size=16).digest()
        wire = b'{"specversion":"1.0","id":"%b%b%b","receivedtime":"%b","data":%b}' % (
            hexlify(id_),
            self._middle[event.type],
            received if event.time is None else event.time.encode(),
            received,
            event.data,
        )
        return Entry(topic, id_, wire)
