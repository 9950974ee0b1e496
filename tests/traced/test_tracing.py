"""Traces go to a real OTLP collector on a loopback address; without one nothing of OpenTelemetry is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from redis import Redis
from servers import eventually

from receiver.events import Entry, with_traceparent
from receiver.traced import start_tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

KEY = "Zq3fT8vLw1xN5rBc"
PROJECT = f"[projects.default]\ncallback_keys = ['{KEY}']\n"
TOPIC = "urn:smn:local:default:sms_success"
NUMBER, MESSAGE, TEXT = "13800138000", "5000:7145427675584051717504973170", "your parcel has come"
REPORT = {"user_receive_time": "2026-03-01 10:00:03", "nationcode": "86", "mobile": NUMBER, "report_status": "SUCCESS",
          "errmsg": "DELIVRD", "description": TEXT, "sid": MESSAGE}  # fmt: skip
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes spans over OTLP/HTTP. While ``hangs`` is set, it answers nobody."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.hangs = threading.Event()
        self.asked = threading.Event()

    @property
    def environ(self) -> dict[str, str]:
        """What makes a service send its spans here, at once."""
        endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def named(self, name: str) -> list[Any]:
        """Return the spans of a name."""
        return [span for span in list(self.spans) if span.name == name]


class Handler(BaseHTTPRequestHandler):
    """Takes one request of an exporter."""

    server: Collector

    def do_POST(self) -> None:
        """Keep the spans."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        while self.server.hangs.is_set():
            time.sleep(0.05)
        for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.resources.append({one.key: one.value.string_value for one in spans.resource.attributes})
            self.server.spans += [span for scope in spans.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Run a collector."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.hangs.clear()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def traced(serve, collector, tmp_path):
    """Return a service that sends its spans to the collector."""
    (tmp_path / "receiver.toml").write_text(PROJECT, encoding="utf-8")
    return serve(RECEIVER_CONFIG=str(tmp_path / "receiver.toml"), RECEIVER_PUBLISH_TIMEOUT="1.2s", **collector.environ)


def post(service, *items: dict[str, str], **headers: str) -> int:
    """Post items with the project's key."""
    return service.post(json.dumps(items).encode(), f"/sms/callback?key={KEY}", **headers)[0]


def attributes(span: Any) -> dict[str, Any]:
    """Return the attributes of a span."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_callback_its_batch_and_its_write_have_spans_and_the_event_carries_the_trace(traced, collector, redis_url):
    """The callback continues the request's trace, the batch links to the callback, the write is within the batch."""
    assert post(traced, REPORT, traceparent=f"00-{TRACE}-{PARENT}-01") == 200
    eventually(lambda: len(collector.spans) >= 3, "the spans have come")
    [callback], [batch], [write] = map(collector.named, ("callback tencent", "batch", "publish redis"))
    assert (callback.trace_id.hex(), callback.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(callback) == {
        "http.request.method": "POST", "http.response.status_code": 200, "receiver.provider": "tencent",
        "receiver.project": "default", "receiver.parser": "fast", "receiver.events": 1, "receiver.rejected_items": 0,
    }  # fmt: skip
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(callback.trace_id, callback.span_id)]
    assert write.parent_span_id == batch.span_id
    assert attributes(batch) == {"receiver.destination": "redis", "receiver.callbacks": 1, "receiver.events": 1}
    assert collector.resources[0]["service.name"] == "sms-callback-receiver"
    with Redis.from_url(redis_url) as client:
        [(_, fields)] = client.xrange(TOPIC)
    event = json.loads(fields[b"data"])
    assert event["traceparent"] == f"00-{TRACE}-{callback.span_id.hex()}-01"
    assert event["data"]["message_id"] == MESSAGE


def test_a_retry_in_another_trace_is_a_duplicate(traced, redis_url):
    """The id depends on what the provider says."""
    for trace in (TRACE, TRACE[::-1]):
        assert post(traced, REPORT, traceparent=f"00-{trace}-{PARENT}-01") == 200
    with Redis.from_url(redis_url) as client:
        assert client.xlen(TOPIC) == 1


def test_a_refused_callback_has_its_error_and_nothing_private(traced, collector):
    """Neither the key of the URL nor what the request holds."""
    assert post(traced, {**REPORT, "report_status": NUMBER}) == 400
    eventually(lambda: collector.named("callback tencent"), "the span has come")
    [span] = collector.named("callback tencent")
    assert attributes(span)["error.type"] == "invalid"
    assert (attributes(span)["http.response.status_code"], span.status.code, len(span.events)) == (400, 0, 0)
    sent = " ".join(map(str, collector.spans))
    assert not [private for private in (KEY, NUMBER, MESSAGE, TEXT) if private in sent]


def test_what_a_stranger_posts_has_no_span(traced, collector):
    """Or anybody could fill the collector."""
    assert traced.post(b"[]", "/sms/callback?key=wrong")[0] == 401
    assert post(traced, REPORT) == 200
    assert traced.stop() == 0
    assert len(collector.named("callback tencent")) == 1


def test_the_last_spans_are_sent_at_the_stop(serve, collector):
    """Although the next batch of them would go in a minute."""
    service = serve(**{**collector.environ, "OTEL_BSP_SCHEDULE_DELAY": "60000"})
    assert service.post(json.dumps([REPORT]).encode())[0] == 200
    assert service.stop() == 0
    assert len(collector.named("callback tencent")) == 1


def test_a_collector_that_hangs_holds_up_neither_callbacks_nor_the_stop(serve, collector):
    """Spans that find no place are dropped."""
    collector.hangs.set()
    service = serve(**collector.environ, OTEL_BSP_MAX_QUEUE_SIZE="20", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10")
    for number in range(40):
        assert service.post(json.dumps([{**REPORT, "sid": f"{number}"}]).encode())[0] == 200
    assert collector.asked.wait(10)
    assert service.stop() == 0
    assert "tracing.spans_dropped" in service.output
    assert "Traceback" not in service.output


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "sms"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_there_are_no_traces_unless_an_endpoint_is_named(environ):
    assert start_tracing(environ, structlog.get_logger("test")) is None


def test_nothing_that_makes_spans_is_loaded_without_them():
    """Other parts of OpenTelemetry are: redis-py loads those of metrics where they are installed."""
    code = """
        import asyncio, sys
        from receiver.app import create_app
        from receiver.settings import read_settings
        async def wire():
            create_app(read_settings({}), "redis://127.0.0.1:1/0")
        asyncio.run(wire())
        ours = ("opentelemetry.exporter", "opentelemetry.sdk.trace", "google.protobuf", "receiver.traced.")
        print([name for name in sys.modules if name.startswith(ours)])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_trace_stands_before_the_data_which_stays_as_it_is():
    """A text of the provider may look like the attribute before which it goes."""
    data = b'{"description":",\\"data\\":{}","extra":{"data":1}}'
    entry = Entry("t", b"i" * 16, b'{"specversion":"1.0","receivedtime":"2026-03-01T02:00:03.000Z","data":%b}' % data)
    marked = with_traceparent(entry, b"00-aa-bb-01")
    assert (marked.topic, marked.id) == (entry.topic, entry.id)
    assert marked.data.endswith(b',"data":%b}' % data)
    assert json.loads(marked.data) == {**json.loads(entry.data), "traceparent": "00-aa-bb-01"}
