"""Puts entries that no consumer finishes aside, so that they hold back neither their group nor the trimming.

The dead letters of a topic are the stream ``{topic}_dead``. An entry is there as it was, with ``reason``, ``topic``,
``entry``, ``group``, ``consumer`` and ``deliveries`` in fields of their own beside ``data``.

An entry is claimed first, so that no other consumer works on it. Then it is added to the dead letters, then
acknowledged. Topic and dead letters may be on different nodes of a cluster, so no script can do all of it. After an
interruption a second call goes on: the claimed entries are found under ``CONSUMER``, and a mark keeps them from being
added twice.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from receiver.redis_client import Script, on
from receiver.streams.group_info import as_text, pending_entries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from receiver.redis_client import Client
    from receiver.streams.group_info import PendingEntry

SCRIPT: Final = files("receiver.streams").joinpath("dead_letters.lua").read_text()
#: Deletes a consumer without pending entries. In one step: with the consumer its pending entries would be gone, and
#: another command may be putting entries aside.
_FORGET: Final = """
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if fields[2] == ARGV[2] and fields[4] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
  end
end
"""
_SUFFIX: Final = "_dead"
#: The consumer that entries belong to while they are put aside.
CONSUMER: Final = "receiver-dead-letters"
#: Seconds for which an entry is not added a second time: longer than anybody takes to repeat a command.
_MARKED: Final = 7 * 86400
_PAGE: Final = 200


def dead_letters_of(topic: str) -> str:
    """Return the key of the dead letters of a topic."""
    return topic + _SUFFIX


def topic_of(key: str) -> str:
    """Return the topic of a stream of dead letters; any other stream is its own."""
    return key.removesuffix(_SUFFIX)


async def count_dead_letters(client: Client, keys: list[str]) -> dict[str, int]:
    """Return the lengths of streams of dead letters of one primary, in one round trip; no stream has 0.

    Left out are keys of another type, and those that the user may not read. Raises the errors of the connection.
    """
    async with on(client, keys[0]).pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.xlen(key)
        lengths = await pipe.execute(raise_on_error=False)
    return {key: length for key, length in zip(keys, lengths, strict=True) if isinstance(length, int)}


#: What a consumer has left out.
UNKNOWN: Final = "?"


class DeadLetter(NamedTuple):
    """Where an entry comes from, and why it was put aside. What a consumer that put it aside left out is ``?``."""

    reason: str
    topic: str
    entry: str
    group: str
    deliveries: str

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> DeadLetter:
        """Return what the fields of an entry say."""
        known = {as_text(name): as_text(value) for name, value in fields.items()}
        return cls(*(known.get(name, UNKNOWN) for name in cls._fields))

    def __str__(self) -> str:
        """Return a sentence."""
        return (
            f"Put aside for group {self.group}, as entry {self.entry} of {self.topic}, after deliveries: "
            f"{self.deliveries}. {self.reason}"
        )


async def dead_letter(client: Client, dead: str, entry_id: str) -> DeadLetter | None:
    """Return what is known of an entry of ``dead``, or None if it is not there any more."""
    found: Any = await on(client, dead).xrange(dead, entry_id, entry_id)
    return DeadLetter.of(found[0][1]) if found else None


class StuckFor(NamedTuple):
    """Which pending entries count as stuck: not delivered for ``idle_ms``, and ``deliveries`` times at least.

    ``consumer``: only those of this one.
    """

    idle_ms: int
    deliveries: int = 0
    consumer: str | None = None

    def includes(self, entry: PendingEntry) -> bool:
        """Return whether an entry is stuck, or an interrupted command was putting it aside."""
        return (
            entry.deliveries >= self.deliveries
            and self.consumer in (None, entry.consumer)
            and (entry.idle_ms >= self.idle_ms or entry.consumer == CONSUMER)
        )


async def stuck(client: Client, topic: str, group: str, limits: StuckFor) -> AsyncIterator[list[PendingEntry]]:
    """Yield the stuck entries of a group, page by page. Raises the errors of redis-py."""
    start = "-"
    while True:
        found = await pending_entries(client, topic, group, start, count=_PAGE)
        if not found:
            return
        start = f"({found[-1].entry_id}"
        yield [*filter(limits.includes, found)]


class DeadLetters:
    """Puts entries of a topic and group aside. Raises the errors of redis-py; call it again after one."""

    def __init__(self, client: Client, topic: str, group: str, *, idle_ms: int, reason: str) -> None:
        """Entries that were delivered within ``idle_ms`` are left to their consumer."""
        self._client = client
        self._topic = topic
        self._group = group
        self._idle_ms = idle_ms
        self._reason = reason
        self._add = Script(client, SCRIPT)
        self._forget = Script(client, _FORGET)

    async def put_aside(self, entry: PendingEntry) -> bool:
        """Move one entry. Return False if its consumer has acknowledged it, or works on it again."""
        least = 0 if entry.consumer == CONSUMER else self._idle_ms
        claimed: Any = await on(self._client, self._topic).xclaim(
            self._topic, self._group, CONSUMER, least, [entry.entry_id], retrycount=entry.deliveries
        )
        if not claimed:
            return False
        [(_, fields)] = claimed
        if not fields:  # trimmed meanwhile: Redis 6 leaves it pending, later ones do not
            await on(self._client, self._topic).xack(self._topic, self._group, entry.entry_id)
            return False
        dead = dead_letters_of(self._topic)
        origin = {  # bytes, as in ``fields``: an entry that was a dead letter before has these names already
            b"reason": self._reason,
            b"topic": self._topic,
            b"entry": entry.entry_id,
            b"group": self._group,
            b"consumer": entry.consumer,
            b"deliveries": entry.deliveries,
        }
        flat = [part for pair in (fields | origin).items() for part in pair]
        mark = f"{{{dead}}}:from:{self._group}:{entry.entry_id}"
        await self._add([dead, mark], [_MARKED, *flat])
        await on(self._client, self._topic).xack(self._topic, self._group, entry.entry_id)
        return True

    async def close(self) -> None:
        """Remove the consumer under which entries were put aside, unless some are left under it."""
        await self._forget([self._topic], [self._group, CONSUMER])
