"""Calls of publish.lua: entries by topic in bounded calls, each with all the keys that it touches.

The caller has to name the sets of seen ids, and Redis' clock decides which one is current. A publisher starts with its
own clock and learns the number of the window from Redis whenever Redis refuses a call for it: once in each window.
"""

from __future__ import annotations

import time
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.events import Entry

SCRIPT: Final = files("receiver.delivery").joinpath("publish.lua").read_bytes()
SHA: Final = sha1(SCRIPT).hexdigest().encode()  # noqa: S324 the name of the script in Redis
#: Bounds of one script call: Redis serves no other client while a script runs. 100 events take 0.3 ms; with 500 at a
#: time an event would cost Redis the same.
CALL_EVENTS: Final = 100
CALL_BYTES: Final = 1 << 20


class ScriptCall(NamedTuple):
    """The events of one topic in one call: their ids, and as many entries."""

    topic: str
    ids: list[bytes]
    data: list[bytes]


def grouped(entries: Iterable[Entry]) -> list[ScriptCall]:
    """Group entries by topic into bounded calls, in their order."""
    calls: list[ScriptCall] = []
    open_: dict[str, ScriptCall] = {}
    bytes_left: dict[str, int] = {}
    for entry in entries:
        topic = entry.topic
        left = bytes_left.get(topic, 0) - len(entry.data)
        if left < 0 or len(open_[topic].ids) >= CALL_EVENTS:
            open_[topic] = call = ScriptCall(topic, [entry.id], [entry.data])
            calls.append(call)
            left = max(0, CALL_BYTES - len(entry.data))
        else:
            call = open_[topic]
            call.ids.append(entry.id)
            call.data.append(entry.data)
        bytes_left[topic] = left
    return calls


def seen_keys(topic: str, window: int) -> list[bytes]:
    """Return the keys of the sets of seen ids around a window, given by its number: before it, its own, after it.

    The topic in braces puts them into the cluster slot of the stream.
    """
    return [f"{{{topic}}}:seen:{number}".encode() for number in (window - 1, window, window + 1)]


class CurrentWindow:
    """The dedupe window that is current by Redis' clock, as far as known, and the arguments that follow from it."""

    def __init__(self, seconds: float) -> None:
        """``seconds`` is the length of a window."""
        self._seconds = int(seconds)
        self._number = int(time.time()) // self._seconds
        self._heads: dict[str, tuple[bytes, ...]] = {}

    def learn(self, number: int) -> None:
        """Take the number of the window from Redis."""
        self._number = number
        self._heads.clear()

    def arguments(self, call: ScriptCall) -> tuple[bytes, ...]:
        """Return the command of a call."""
        head = self._heads.get(call.topic)
        if head is None:
            head = self._heads[call.topic] = self._head(call.topic)
        return (*head, *call.ids, *call.data)

    def _head(self, topic: str) -> tuple[bytes, ...]:
        keys = [topic.encode(), *seen_keys(topic, self._number)]
        return (b"EVALSHA", SHA, b"%d" % len(keys), *keys, b"%d" % self._seconds, b"%d" % self._number)
