"""What a search finds: an event or a report, and the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from receiver.events import utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.lookups.reports import Report, ReportAbout
    from receiver.search.spool import SpooledMatch
    from receiver.streams.entry_readers import Reader
    from receiver.streams.stored_event import StoredEvent


class Verdict(StrEnum):
    """What became of an event."""

    PUBLISHED = "published"  # in the stream of its topic
    DUPLICATE = "duplicate"  # in the spool, and already in the stream: the drain adds nothing
    SPOOLED = "spooled"  # in the spool, and not in Redis yet
    DEAD_LETTERED = "dead-lettered"  # put aside for a consumer group that did not finish it
    QUARANTINED = "quarantined"  # rejected: in the quarantine, with the reasons
    TRIMMED = "trimmed"  # was in the stream, and is not any more
    NOT_SEEN = "not seen"  # no trace of it as far as was searched


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """One event that is about what is wanted, or the report of one that is in no stream.

    ``why`` explains the verdict in a sentence. ``topic``, ``entry_id`` and ``readers`` are those of the stream, and
    ``spool_file`` is the name of the file on disk. ``event`` and ``data`` are the event, decoded and whole. ``report``
    is its record in the report index.
    """

    verdict: Verdict
    why: str
    project_id: str | None = None
    topic: str | None = None
    entry_id: str | None = None
    readers: tuple[Reader, ...] = ()
    spool_file: str | None = None
    event: StoredEvent | None = None
    data: bytes | None = None
    report: ReportAbout | None = None

    @property
    def record(self) -> Report | None:
        """The record in the report index, without what only the search needs."""
        return None if self.report is None else self.report.report


def without_entry(project_id: str, report: ReportAbout, *, searched: bool) -> SearchResult:
    """Return what is known of a message from its record in the report index alone.

    ``searched``: the search for its entry came to its end.
    """
    if report.came is None:
        verdict, why = Verdict.NOT_SEEN, "The sender has registered the message. No callback about it has come."
    elif searched:
        when = utc(report.came // 1000)
        verdict, why = Verdict.TRIMMED, f"Its report of {when} was published. Its entry is in no stream any more."
    else:
        when = utc(report.came // 1000)
        verdict, why = Verdict.PUBLISHED, f"Its report of {when} was published. Its entry has not been reached."
    return SearchResult(verdict=verdict, why=why, project_id=project_id, report=report)


def trimmed(topic: str, projects: Mapping[str, str]) -> SearchResult:
    """Return what is known of an event id from the dedupe alone. ``projects`` has the project of each topic."""
    return SearchResult(
        verdict=Verdict.TRIMMED,
        why="The topic has taken an event with this id within the dedupe window. Its entry is in the stream no more.",
        project_id=projects[topic],
        topic=topic,
    )


def on_disk(spooled: SpooledMatch, project_id: str | None, report: ReportAbout | None, *, known: bool) -> SearchResult:
    """Return the result of an event in the spool. ``known``: its topic knows the event's id."""
    verdict, why = Verdict.SPOOLED, "It is safe on disk, and waits for Redis."
    if known:
        verdict = Verdict.DUPLICATE
        why = "It is on disk, and its topic has taken an event with this id: the drain will add nothing."
    return SearchResult(
        verdict=verdict,
        why=why,
        project_id=project_id,
        topic=spooled.topic,
        spool_file=spooled.path.name,
        event=spooled.event,
        data=spooled.data,
        report=report,
    )


def nowhere(back_to_ms: int | None, *, redis: bool) -> SearchResult:
    """Return the result of a search that found nothing. ``redis``: Redis was searched, back to a time."""
    if not redis:
        why = "It is not in the spool of this machine. Redis is away, so nothing else was searched."
        return SearchResult(verdict=Verdict.NOT_SEEN, why=why)
    since = "" if back_to_ms is None else f" since {utc(back_to_ms // 1000)}"
    places = f"not in the streams and quarantines{since}, nor in the spool of this machine, nor in the report index"
    return SearchResult(verdict=Verdict.NOT_SEEN, why=f"There is no trace of it: {places}.")
