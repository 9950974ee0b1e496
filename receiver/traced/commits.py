"""A span for each batch, which links to the callbacks that wait for it, and within it one for the write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, StatusCode

from receiver.delivery.group_commit import GroupCommit
from receiver.errors import WriteFailedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from opentelemetry.trace import SpanContext, Tracer

    from receiver.delivery.group_commit import Waiter, Write
    from receiver.events import Entry


class TracedCommit(GroupCommit):
    """Collects the entries of many callers into writes, with spans."""

    def __init__(self, tracer: Tracer, write: Write, name: str) -> None:
        super().__init__(write, name)
        self._tracer = tracer
        #: The spans of the callers that wait, by their future.
        self._spans: dict[asyncio.Future[Mapping[str, WriteFailedError]], SpanContext] = {}

    def commit(
        self, entries: list[Entry], size: int, since: float | None = None
    ) -> asyncio.Future[Mapping[str, WriteFailedError]]:
        """Queue the entries of a callback, and keep its span until they are safe, or have failed."""
        done = super().commit(entries, size, since)
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            self._spans[done] = context
            done.add_done_callback(self._forget)
        return done

    def _forget(self, done: asyncio.Future[Mapping[str, WriteFailedError]]) -> None:
        del self._spans[done]

    async def _write_group(self, group: list[Waiter]) -> Mapping[str, WriteFailedError]:
        """Write a batch, in a trace of its own: it serves several callbacks."""
        links = [Link(self._spans[waiter.done]) for waiter in group if waiter.done in self._spans]
        attributes: dict[str, str | int] = {
            "receiver.destination": self.name,
            "receiver.callbacks": len(group),
            "receiver.events": sum(len(waiter.entries) for waiter in group),
        }
        with self._tracer.start_as_current_span("batch", links=links, attributes=attributes):
            kind = SpanKind.INTERNAL if self.name == "spool" else SpanKind.PRODUCER
            with self._tracer.start_as_current_span(
                f"publish {self.name}", kind=kind, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    failed = await super()._write_group(group)
                except WriteFailedError as error:
                    span.set_attribute("error.type", error.reason)
                    span.set_status(StatusCode.ERROR)
                    raise
                span.set_attribute("receiver.refusing_topics", len(failed))
                return failed
