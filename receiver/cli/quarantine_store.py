"""Reads, retries and removes the items in a project's quarantine."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from receiver.events import EnvelopeBuilder
from receiver.providers import PROVIDERS
from receiver.providers.base import request_of
from receiver.providers.json_items import TooManyItemsError
from receiver.redis_client import on
from receiver.routing import Routing
from receiver.streams.paging import pages
from receiver.streams.stored_event import StoredEvent, decode_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.delivery.topology import Topology
    from receiver.events import Entry
    from receiver.projects import Project
    from receiver.providers.base import ParsedCallback
    from receiver.redis_client import Client
    from receiver.routing import ProjectRoutes

#: Items processed at a time.
PAGE: Final = 200

PUBLISHED: Final = "published"
DROPPED: Final = "dropped"
INVALID: Final = "still invalid"
REFUSED: Final = "not published"
MISSING: Final = "not there"


class Item(NamedTuple):
    """An entry of a quarantine stream. ``event`` is None if it is not an event of this service."""

    project: str
    topic: str
    id: str
    data: bytes
    event: StoredEvent | None

    def result(self, outcome: str, reasons: list[str]) -> RetryResult:
        """Return what became of it."""
        return RetryResult(self.id, outcome, reasons, self.topic)

    @property
    def reasons(self) -> list[str]:
        """The reasons of its rejection."""
        return self.event.reasons if self.event else []

    @property
    def raw(self) -> bytes:
        """The item exactly as received; empty if the entry has none."""
        data = self.event.data if self.event else {}
        if "item_base64" in data:
            return base64.b64decode(str(data["item_base64"]))
        return str(data.get("item", "")).encode()


class RetryResult(NamedTuple):
    """The result for one item. ``topic`` is the quarantine that it is in, None if it is in none."""

    id: str
    outcome: str
    reasons: list[str]
    topic: str | None = None


class Quarantine:
    """The quarantine stream of a project."""

    def __init__(self, client: Client, project: Project) -> None:
        self.project = project
        self._client = client
        self._topic = Routing([project])[project.id].quarantine

    async def count(self) -> int:
        """Return the number of items."""
        length: int = await on(self._client, self._topic).xlen(self._topic)
        return length

    async def newest(self, limit: int | None) -> list[Item]:
        """Return the newest items, newest first."""
        entries: Any = await on(self._client, self._topic).xrevrange(self._topic, count=limit)
        return [self._item(*entry) for entry in entries]

    async def find(self, id_: str) -> Item | None:
        """Return the item with an entry's id, or None."""
        entries: Any = await on(self._client, self._topic).xrange(self._topic, id_, id_)
        return self._item(*entries[0]) if entries else None

    async def pages(self) -> AsyncIterator[list[Item]]:
        """Yield all items that are there now, in pages. Items that are added meanwhile are not included."""
        async for entries in pages(self._client, self._topic, PAGE):
            yield [self._item(*entry) for entry in entries]

    async def chosen(self, ids: tuple[str, ...]) -> list[Item]:
        """Return the items with these ids, as far as they are there."""
        found = [await self.find(id_) for id_ in dict.fromkeys(ids)]
        return [item for item in found if item is not None]

    async def remove(self, ids: list[str]) -> None:
        """Remove items for good."""
        if ids:
            await on(self._client, self._topic).xdel(self._topic, *ids)

    def _item(self, id_: bytes, fields: dict[bytes, Any]) -> Item:
        data: bytes = fields.get(b"data", b"")
        return Item(self.project.id, self._topic, id_.decode(), data, decode_event(data))


class Retry:
    """Validates items with the current schemas, and publishes those that are valid now."""

    def __init__(self, quarantine: Quarantine, primaries: Topology, routes: ProjectRoutes, max_items: int) -> None:
        """``routes`` are those of the quarantine's project, with the overrides set at run time."""
        project = quarantine.project
        self._quarantine = quarantine
        self._routes = routes
        self._primaries = primaries
        self._providers = {name: project.provider(name, max_items) for name in PROVIDERS}
        self._builders = {name: EnvelopeBuilder(name, project.id) for name in PROVIDERS}

    async def retry(self, items: list[Item]) -> list[RetryResult]:
        """Publish valid items. An item is removed from the quarantine once all its events are in their streams."""
        results: dict[str, RetryResult] = {}
        entries: dict[str, list[Entry]] = {}
        for item in items:
            entries_of, reasons = self._read(item)
            if reasons:
                results[item.id] = item.result(INVALID, reasons)
            else:
                entries[item.id] = entries_of
        refused = await self._publish([entry for entries_of in entries.values() for entry in entries_of])
        for item in items:
            if item.id in entries:
                reasons = [refused[entry.topic] for entry in entries[item.id] if entry.topic in refused]
                results[item.id] = item.result(REFUSED if reasons else PUBLISHED, reasons)
        await self._quarantine.remove([result.id for result in results.values() if result.outcome == PUBLISHED])
        return [results[item.id] for item in items]

    async def _publish(self, entries: list[Entry]) -> dict[str, str]:
        if not entries:
            return {}
        failed = await self._primaries.drain(entries)
        return {topic: str(error) for topic, error in failed.items()}

    def _read(self, item: Item) -> tuple[list[Entry], list[str]]:
        """Return the entries of a valid item, or the reasons why it is still invalid.

        The item may be a whole body. With the current schemas it may contain several items: valid ones are published,
        and invalid ones get their own entries in the quarantine, as if the body arrived now.
        """
        if item.event is None or item.event.provider not in PROVIDERS or not item.raw:
            return [], ["the entry is not a rejected item of a known provider"]
        provider = item.event.provider
        try:
            parsed = self._providers[provider].parse(request_of(item.raw))
        except TooManyItemsError as error:
            return [], [str(error)]
        if not parsed.events:
            problems = [problem for rejection in parsed.rejections for problem in rejection.problems]
            return [], problems or [_why_no_event(parsed)]
        return self._envelope(self._builders[provider], parsed, _milliseconds(item.event.receivedtime)), []

    def _envelope(self, builder: EnvelopeBuilder, parsed: ParsedCallback, received_ms: int) -> list[Entry]:
        events = [*parsed.events, *(rejection.event for rejection in parsed.rejections)]
        return [builder.build(event, self._routes.stream_of(event), received_ms) for event in events]


def _why_no_event(parsed: ParsedCallback) -> str:
    """Say why a valid item becomes no event. It stays: what leaves the quarantine is in a stream, or was dropped."""
    if parsed.pending:
        return "valid, and of a state that is not final: set pending = true at the provider, or drop it"
    return "valid, and not about SMS: drop it" if parsed.ignored else "empty"


def _milliseconds(receivedtime: str) -> int:
    """Return the time of receipt in ms: a retried event keeps its ``receivedtime``."""
    return round(datetime.fromisoformat(receivedtime).timestamp() * 1000)
