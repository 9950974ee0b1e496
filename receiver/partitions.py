"""Spreads one topic over several streams, for a topic that outgrows its Redis node. Off by default.

A partitioned event goes to the stream ``{topic}.{suffix}`` of its partition, which is a pure function of the person's
number, the event's own time and the configuration. So all events of a person are in one stream, in their order, and a
provider's retry finds the stream that holds the event already.
"""

from __future__ import annotations

from binascii import crc32
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.events import Event

MAX_STREAMS: Final = 64
#: Three characters for each partition, behind its number. They are computed so that the slots of the first 2^k streams
#: of any topic are equally spaced. Redis Cluster's CRC16 is linear: plain suffixes ``:0 … :31`` miss half of eight
#: nodes. https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model
_LETTERS: Final = (
    "dlgemsgolfnx1njml6gg1wd5x23h17ownnvzhxhapdv03f37aolqlhk037vgjaxcitakkhcgjmeceiagvhozgy4nq8azqh6u"
    "mixdat7mkko70bmuk9gzrn6vj25zu9iu6yv2bwxcvlatsh8wf8xg9ly05iw9gp3ws7quxa2tou6f92enadoul62ez6oq13sm"
)
#: A dot cannot occur in the name of a topic, so no topic has the name of a partition.
SUFFIXES: Final = tuple(f".{number:02d}{_LETTERS[3 * number :][:3]}" for number in range(MAX_STREAMS))
_KEEP_DIGITS: Final = str.maketrans("", "", " ().-")


class Change(NamedTuple):
    """From ``since`` on, a topic has this number of streams. ``since`` is UTC, as in events; "" is the beginning."""

    since: str
    streams: int


class _Person(msgspec.Struct, gc=False):
    nation_code: str = ""
    mobile: str = ""


_decoder: Final = msgspec.json.Decoder(_Person)


class Partitions:
    """The partitions of one event type over time."""

    def __init__(self, changes: Iterable[Change]) -> None:
        """Take at least one change, in the order of time. Before the first there is one stream, the topic itself."""
        self.changes = tuple(changes)
        self.max_streams = max(change.streams for change in self.changes)

    def streams(self, topic: str) -> tuple[str, ...]:
        """Return all streams that may hold events, the topic itself first: it has the events without time or number."""
        return (topic, *_names(topic)[: self.max_streams]) if self.max_streams > 1 else (topic,)

    def stream_of(self, topic: str, event: Event) -> str:
        """Return the stream of an event.

        The event's own time decides on the number of streams, so a retry of an event from before a change finds it.
        The time of an event with an ``identity`` may differ between retries: it stays in the topic itself.
        """
        streams = 1 if event.identity is not None else self._at(event.time)
        if streams == 1:
            return topic
        digits = number(*_person(event.data))
        return _names(topic)[crc32(digits.encode()) % streams] if digits else topic

    def _at(self, time: str | None) -> int:
        if time is None:
            return 1
        return next((change.streams for change in reversed(self.changes) if change.since <= time), 1)


def number(nation_code: str, mobile: str) -> str:
    """Return the digits whose CRC32, modulo the number of streams, is the partition.

    A number with ``+`` or ``00`` starts with its country code. The nation code is put in front of any other.
    """
    digits = mobile.translate(_KEEP_DIGITS)
    if digits.startswith("+"):
        return digits[1:]
    if digits.startswith("00"):
        return digits[2:]
    return nation_code.lstrip("+0") + digits if digits else ""


def _person(data: bytes) -> tuple[str, str]:
    person = _decoder.decode(data)
    return person.nation_code, person.mobile


@lru_cache(maxsize=4096)
def _names(topic: str) -> tuple[str, ...]:
    return tuple(topic + suffix for suffix in SUFFIXES)
