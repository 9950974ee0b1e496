"""Where spans go: to an OTLP collector over HTTP, in batches, from a thread of their own.

A span that has ended is put into a bounded queue. While the collector does not answer the queue fills up, and spans are
dropped: neither the event loop nor a callback waits.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from receiver.traced.callbacks import TracedCallbacks
from receiver.traced.commits import TracedCommit

if TYPE_CHECKING:
    from receiver.delivery.group_commit import Write
    from receiver.log import Logger

_NAME: Final = "sms-callback-receiver"
#: Seconds for the last spans to be sent, of the time that delivery has to close.
_FLUSH: Final = 1.0


class Tracing:
    """The traces of this process, and the parts that write them."""

    def __init__(self, logger: Logger) -> None:
        """Start the thread that sends. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before our own name."""
        self._logger = logger
        resource = Resource({"service.name": _NAME, "service.version": version(_NAME)}).merge(_of_environment())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("receiver", version(_NAME))

    def callbacks(self, *parts: Any) -> TracedCallbacks:  # noqa: ANN401 those of Callbacks
        """Return a ``Callbacks`` with a span for each."""
        return TracedCallbacks(self._tracer, *parts)

    def group_commit(self, write: Write, name: str) -> TracedCommit:
        """Return a ``GroupCommit`` with a span for each batch and each write."""
        return TracedCommit(self._tracer, write, name)

    async def close(self) -> None:
        """Send the last spans, for a second at most: a collector that hangs holds up no stop."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def flush() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has closed: the collector has answered too late
                loop.call_soon_threadsafe(done.set)

        # A daemon: the end of the process waits for other threads.
        threading.Thread(target=flush, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(_FLUSH):
                await done.wait()
        except TimeoutError:
            self._logger.warning("tracing.spans_dropped", reason="the collector did not answer in time")


def _of_environment() -> Resource:
    """Return what the environment says of this service, without OpenTelemetry's placeholder for its name."""
    found = dict(Resource.create().attributes)
    if str(found["service.name"]).startswith("unknown_service"):
        del found["service.name"]
    return Resource(found)
