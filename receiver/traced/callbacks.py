"""A span for each callback of an authenticated URL; what strangers send makes none.

The span continues the trace of the request's ``traceparent`` (https://www.w3.org/TR/trace-context/), and its own
travels in the events. Their ids do not depend on it: a retry is a duplicate, whatever its trace.

Attributes hold no URL, since it has the key, no number, no text and no id of a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from receiver.errors import ReceiverError
from receiver.events import with_traceparent
from receiver.web.callbacks import Callbacks

if TYPE_CHECKING:
    from aiohttp import web
    from opentelemetry.trace import Span, Tracer

    from receiver.events import Entry
    from receiver.providers.base import CallbackRequest, ParsedCallback
    from receiver.web.admission import Reservation
    from receiver.web.callbacks import Endpoint

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class TracedCallbacks(Callbacks):
    """The handler of all callbacks, with spans."""

    def __init__(self, tracer: Tracer, *parts: Any) -> None:  # noqa: ANN401 those of Callbacks
        super().__init__(*parts)
        self._tracer = tracer

    async def process(self, request: web.BaseRequest, endpoint: Endpoint) -> web.StreamResponse:
        """Process a callback within a span. The error of a callback is its code: its text may quote the request."""
        with self._tracer.start_as_current_span(
            f"callback {endpoint.provider.name}",
            context=_PROPAGATOR.extract(request.headers),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "receiver.provider": endpoint.provider.name,
                "receiver.project": endpoint.project.id,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                answer = await super().process(request, endpoint)
            except Exception as error:
                _describe(error, span)
                raise
            span.set_attribute("http.response.status_code", answer.status)
            return answer

    async def _parse(
        self, callback: CallbackRequest, endpoint: Endpoint, reservation: Reservation
    ) -> tuple[ParsedCallback, list[Entry]]:
        """Parse a callback, and give the entries its trace."""
        parsed, entries = await super()._parse(callback, endpoint, reservation)
        span = trace.get_current_span()
        span.set_attributes(
            {
                "receiver.parser": parsed.path,
                "receiver.events": len(parsed.events),
                "receiver.rejected_items": len(parsed.rejections),
            }
        )
        traceparent = _traceparent(span)
        return parsed, [with_traceparent(entry, traceparent) for entry in entries]


def _describe(error: Exception, span: Span) -> None:
    """Say how a callback was refused."""
    status = error.status if isinstance(error, ReceiverError) else 500
    span.set_attribute("error.type", error.code if isinstance(error, ReceiverError) else type(error).__name__)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:  # noqa: PLR2004 those of the server: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
        span.set_status(StatusCode.ERROR)


def _traceparent(span: Span) -> bytes:
    own = span.get_span_context()
    return f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{own.trace_flags:02x}".encode()
