"""Finds what became of a message, and decides the verdict.

A search reads no entries blindly while a hint says where to look (``scope``). Without such a hint, and for phone
numbers, it reads all topics of the projects backwards, to a stated time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from receiver.lookups.scripts import project_key
from receiver.phone_numbers import canonical
from receiver.search.result import SearchResult, Verdict, nowhere, on_disk, trimmed, without_entry
from receiver.search.scope import Span
from receiver.search.seen_ids import added_window
from receiver.search.spool import SpoolSearch
from receiver.search.streams import SearchBudget, StreamSearch
from receiver.search.wanted import Wanted
from receiver.streams.dead_letters import dead_letter, dead_letters_of
from receiver.streams.entry_ids import ENTRY_ID, now_ms
from receiver.streams.entry_readers import readers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from receiver.lookups.reports import ReportAbout
    from receiver.search.scope import SearchScope
    from receiver.search.spool import SpooledMatch
    from receiver.search.streams import Match
    from receiver.streams.stored_event import StoredEvent

#: How far back a search reads without a hint.
SINCE: Final = timedelta(hours=24)
#: Findings of a search, at most.
LIMIT: Final = 20
#: The part of the time that the spool may take.
_SPOOL_PART: Final = 0.5
#: Milliseconds after now that count as now: Redis' clock may have been set back.
_AHEAD: Final = 86_400_000


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What to search for. Times are milliseconds since the epoch; without ``oldest_ms``, the last 24 hours.

    With ``oldest_ms`` the search reads back to there even if it has found something. ``newest_ms`` is where an earlier
    search ended: this one reads the rest of the streams.
    """

    text: str
    oldest_ms: int | None = None
    newest_ms: int | None = None
    limit: int = LIMIT
    budget: SearchBudget = field(default_factory=SearchBudget)


class Search:
    """One search. Raises the errors of redis-py."""

    def __init__(self, scope: SearchScope, request: SearchRequest) -> None:
        self._scope = scope
        self._request = request
        self._wanted = Wanted(request.text)
        self._streams = StreamSearch(scope.client, self._wanted, request.budget)
        self._topics = scope.topics()
        self._quarantines = scope.quarantines()
        self._seen: set[tuple[str, str]] = set()
        self._reports: list[tuple[str, ReportAbout]] = []
        self._shown: set[tuple[str, ReportAbout]] = set()
        self._added: list[Span] = []
        #: All entries since here (milliseconds, Redis' clock) were looked at; None: hints made that unnecessary.
        self.back_to_ms: int | None = None
        #: Where a second search of the streams goes on, as its ``newest_ms``; None if nothing is left.
        self.resume_ms: int | None = None
        #: Whether limit, budget and disks let the search come to its end.
        self.complete = True
        #: Whether there is a spool in the folder.
        self.has_spool = True
        #: What could not be searched, in sentences.
        self.problems: list[str] = []

    @property
    def reached(self) -> bool:
        """Whether any part of Redis was searched."""
        return bool(self._topics)

    async def results(self) -> AsyncIterator[SearchResult]:
        """Yield what is found; one result ``not seen`` if that is nothing.

        The limit ends the search, but a step under way is not cut, so that a later search can go on behind it.
        """
        found = 0
        async for result in self._all():
            found += 1
            if found == self._request.limit:
                self._request.budget.stop()
            yield result
        if not found:
            yield nowhere(self.back_to_ms, redis=self.reached)

    async def _all(self) -> AsyncIterator[SearchResult]:
        # The spool first: an event that is published meanwhile is then found in its stream.
        waiting = await self._spool()
        await self._read_index(await self._leave_out())
        for spooled in waiting:
            yield await self._spooled(spooled)
        if self._topics:
            async for match in self._matches():
                yield await self._published(match)
        for project_id, report in self._reports:
            if (project_id, report) not in self._shown:
                yield without_entry(project_id, report, searched=self.complete)
        if self._added and not self._seen and self.complete:
            yield trimmed(self._added[0].topics[0], self._topics)

    async def _leave_out(self) -> Iterable[str]:
        """Leave out streams that are not there or out of reach; return the projects whose report index can be read."""
        indexes = {project_key(project_id): project_id for project_id in self._scope.sign_ids}
        existing, away = await self._scope.survey([*self._topics, *indexes])
        if away:
            self.complete = False
            left_out = f"{len(away.keys() & self._topics)} of {len(self._topics)} streams"
            self.problems.append(f"Redis does not answer for {left_out}: {next(iter(away.values()))}")
        reached = {topic: project_id for topic, project_id in self._topics.items() if topic not in away}
        self._topics = {topic: reached[topic] for topic in reached if topic in existing} or reached
        return [project_id for key, project_id in indexes.items() if key not in away]

    async def _read_index(self, projects: Iterable[str]) -> None:
        for project_id in projects:
            sign_id = self._scope.sign_ids[project_id]
            found = await self._scope.reports.about(project_id, self._request.text, sign_id)
            self._reports += [(project_id, report) for report in found]

    async def _matches(self) -> AsyncIterator[Match]:
        """Yield the entries: those that hints lead to and then, if there are none, those of all topics."""
        text, continues = self._request.text, self._request.newest_ms is not None
        if not continues:
            async for match in self._hinted():
                yield match
        # The digits of an entry id may be a phone number; that of an entry that is there is not meant as one.
        number = self._wanted.is_number and not self._seen
        number = number and all(one.report.message_id != text for _, one in self._reports)
        if not (continues or number):
            async for match in self._of_reports():
                yield match
        if number or not self._seen or self._request.oldest_ms is not None:
            async for match in self._blind():
                yield match
        if number and not continues:  # of older reports: the newer ones have been found
            async for match in self._of_reports():
                yield match

    async def _hinted(self) -> AsyncIterator[Match]:
        if ENTRY_ID.fullmatch(self._request.text):
            for topic in self._topics:
                entry = await self._streams.entry(topic, self._request.text)
                if entry is not None and self._is_new(entry):
                    yield entry
        self._added = await self._scope.spans_of_event(self._request.text, self._topics)
        for span in self._added:
            async for match in self._between(span):
                yield match
                break  # an id is once in a window

    async def _of_reports(self) -> AsyncIterator[Match]:
        """Yield, for each report without an entry so far, the matches in the first span around it that has any."""
        for project_id, report in self._reports:
            topics = [topic for topic, of in self._topics.items() if of == project_id]
            for span in self._scope.spans_around(report, topics):
                if (project_id, report) in self._shown:
                    break
                async for match in self._between(span):
                    yield match

    async def _blind(self) -> AsyncIterator[Match]:
        request, now_ms = self._request, await self._now_ms()
        oldest = now_ms - SINCE // timedelta(milliseconds=1) if request.oldest_ms is None else request.oldest_ms
        newest = now_ms + _AHEAD if request.newest_ms is None else request.newest_ms
        async for match in self._between(Span([*self._topics], max(0, oldest), newest)):
            yield match
        self.back_to_ms = min(self._streams.back_to_ms, now_ms)
        if self.resume_ms is not None:
            self.resume_ms = self.back_to_ms

    async def _between(self, span: Span) -> AsyncIterator[Match]:
        async for match in self._streams.back(*span, self._quarantines):
            if self._is_new(match):
                yield match
        if self._streams.back_to_ms > span.oldest_ms:
            self.complete = False
            self.resume_ms = await self._now_ms()

    def _is_new(self, match: Match) -> bool:
        place = match.topic, match.entry_id
        new = place not in self._seen
        self._seen.add(place)
        return new

    async def _now_ms(self) -> int:
        return await now_ms(self._scope.client, next(iter(self._topics)))

    async def _spool(self) -> list[SpooledMatch]:
        request = self._request
        if request.newest_ms is not None:  # an earlier search has done it
            return []
        ends_at = request.budget.part(_SPOOL_PART)
        search = SpoolSearch(self._scope.spool, self._wanted, limit=request.limit, ends_at=ends_at)
        found = await asyncio.to_thread(search.search)
        self.has_spool = search.has_folder
        self.problems += search.problems
        self.complete = self.complete and not search.problems
        return [spooled for spooled in found if self._scope.project_of(spooled.topic)]

    async def _published(self, match: Match) -> SearchResult:
        verdict, why = Verdict.PUBLISHED, "It is in the stream of its topic."
        if match.topic in self._quarantines:
            verdict, why = Verdict.QUARANTINED, "; ".join(match.event.reasons)
        elif match.topic.endswith(dead_letters_of("")):
            letter = await dead_letter(self._scope.client, match.topic, match.entry_id)
            verdict, why = Verdict.DEAD_LETTERED, "It was put aside." if letter is None else str(letter)
        return SearchResult(
            verdict=verdict,
            why=why,
            project_id=self._topics[match.topic],
            topic=match.topic,
            entry_id=match.entry_id,
            readers=tuple(await readers(self._scope.client, match.topic, match.entry_id)),
            event=match.event,
            data=match.data,
            report=self._report(self._topics[match.topic], match.event),
        )

    async def _spooled(self, spooled: SpooledMatch) -> SearchResult:
        scope, topic = self._scope, spooled.topic
        known = topic in self._topics and await added_window(scope.client, topic, spooled.event.id, scope.dedupe_window)
        project_id = scope.project_of(topic)
        return on_disk(spooled, project_id, self._report(project_id, spooled.event), known=bool(known))

    def _report(self, project_id: str | None, event: StoredEvent) -> ReportAbout | None:
        """Return the record of an event in the report index: of those with its message_id, that of its number."""
        message_id, mobile, nation = (event.data.get(name) for name in ("message_id", "mobile", "nation_code"))
        found = [one for one in self._reports if one[0] == project_id and one[1].report.message_id == message_id]
        if len(found) > 1 and isinstance(mobile, str):
            number = canonical(nation if isinstance(nation, str) else None, mobile)[1]
            found = [one for one in found if one[1].report.mobile == number] or found
        self._shown.update(found[:1])
        return found[0][1] if found else None
