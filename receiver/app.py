"""The only wiring: makes each part, and hands it to the parts that use it. ``lifecycle`` starts and stops them."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from receiver import lifecycle, log
from receiver.delivery.dedupe_window import DedupeWindow
from receiver.delivery.delivery import Delivery
from receiver.delivery.group_commit import GroupCommit
from receiver.descriptors import connections_within_limit
from receiver.lookups.counts import IndexCounts
from receiver.lookups.messages import Messages
from receiver.lookups.reports import Reports
from receiver.new_fields import NewFields
from receiver.peers import Peers
from receiver.redis_client import connect
from receiver.route_overrides import RouteOverrides
from receiver.routing import Routing
from receiver.search.scope import SearchScope
from receiver.streams.retention import Retention
from receiver.traced import start_tracing
from receiver.web.admission import AdmissionControl
from receiver.web.auth_failures import AuthFailures
from receiver.web.browsers import BrowserGuard
from receiver.web.callback_auth import CallbackAuth
from receiver.web.callbacks import Callbacks
from receiver.web.client_address import ClientAddresses
from receiver.web.connections import Connections
from receiver.web.console.service_state import ServiceState
from receiver.web.console.viewers import Viewers
from receiver.web.documents.curl import Bases
from receiver.web.documents.operations import SMS
from receiver.web.documents.served import Documents
from receiver.web.fast_path import FastPath
from receiver.web.fetcher import Fetcher
from receiver.web.middleware import ErrorResponses
from receiver.web.ops import Ops
from receiver.web.ports import Ports
from receiver.web.rejected_items import RejectedItems
from receiver.web.reload import Reload
from receiver.web.server import Runner
from receiver.web.smn.api import SmsEvents, SmsReports
from receiver.web.smn.auth import Credentials
from receiver.web.smn.bodies import LimitedBodies, read_body
from receiver.web.smn.find import SmsSearch
from receiver.web.smn.iam import TOKEN_BODY, Iam
from receiver.web.smn.messages import SmsMessages
from receiver.web.smn.parsing import SmnParser
from receiver.web.smn.request_schemas import BATCH_BODY, PUT_BODY
from receiver.web.static_files import StaticFiles

if TYPE_CHECKING:
    from receiver.redis_client import Client
    from receiver.settings import Settings

OPS: Final = web.AppKey("ops", Ops)
DELIVERY: Final = web.AppKey("delivery", Delivery)
#: Set by the first lookup: from then on the service needs the report index.
INDEX_WANTED: Final = web.AppKey("index wanted", asyncio.Event)
CONNECTIONS: Final = web.AppKey("connections", Connections)
FAST_PATH: Final = web.AppKey("fast_path", FastPath)
PORTS: Final = web.AppKey("ports", Ports)
ROUTING: Final = web.AppKey("routing", Routing)
RELOAD: Final = web.AppKey("reload", Reload)
#: Seconds that an idle connection stays open. They also bound a client that never ends the head of a later request.
KEEPALIVE: Final = 75.0
#: Seconds for which a thread may compute while the event loop waits, some five times a request. While a thread parsed a
#: batch, /livez took 80 ms with Python's default of 5 ms and 30 ms with 1 ms. It costs nothing otherwise.
_SWITCH_INTERVAL: Final = 1e-3
#: Connections of all lookups together, to each primary.
_LOOKUP_CONNECTIONS: Final = 50


def create_app(settings: Settings, redis_url: str, peers: Peers | None = None) -> web.Application:
    """Wire the service for a Redis. No I/O happens before the application starts.

    ``peers`` are the other workers, if there are any.
    """
    logger = log.configure(settings.log_level)
    routing = Routing(settings.projects.values())
    peers = peers or Peers()

    # Callbacks: authenticate, admit, store.
    addresses = ClientAddresses(settings.trusted_proxies)
    failures = AuthFailures(logger)
    browsers = BrowserGuard(any_host=settings.allow_open)
    auth = CallbackAuth(settings.projects, addresses, failures, browsers)
    admission = AdmissionControl(settings.max_inflight_bytes, settings.max_inflight_events)
    fetcher = Fetcher(settings.fetch_proxy, logger)
    traced = start_tracing(os.environ, logger)
    delivery = Delivery(settings, redis_url, logger, traced.group_commit if traced else GroupCommit)
    new_fields, rejected = NewFields(logger), RejectedItems(logger)
    new_callbacks = traced.callbacks if traced else Callbacks
    callbacks = new_callbacks(settings, auth, admission, fetcher, routing, delivery, new_fields, rejected)

    # A client of its own: a connection that only reads may lead to a former Redis, and no publisher may get that one.
    streams = connect(redis_url)
    retention = _retention(settings, streams, routing, logger)

    # Lookups neither wait for the connections of callbacks nor use them up.
    redis = connect(redis_url, _LOOKUP_CONNECTIONS)
    overrides = RouteOverrides(redis, routing, logger, settings.replicas)
    credentials = Credentials(settings.projects, read_body, browsers, addresses, failures)
    bodies = LimitedBodies(admission, settings.read_timeout)

    counts = IndexCounts(redis)
    ops = Ops(delivery, retention.gauges, admission, counts, peers, logger)
    projects = settings.projects
    # The metrics name projects and topics: pages of other sites may not read them. Health and documents name none.
    show_metrics = browsers.before(ops.metrics, lambda: projects.any_open)
    documents = Documents(Bases.of(settings.port, settings.internal_port))
    static = StaticFiles(projects)
    viewers = Viewers(credentials, redis, routing, ServiceState(ops, retention.gauges), logger)
    errors = ErrorResponses(logger)

    app = web.Application(middlewares=[errors])
    app[OPS] = ops
    app[DELIVERY] = delivery
    wanted = app[INDEX_WANTED] = asyncio.Event()
    connections = app[CONNECTIONS] = Connections(connections_within_limit(settings.max_connections), logger)
    app[FAST_PATH] = FastPath(auth, callbacks, errors)
    app[PORTS] = Ports(settings.internal_port, errors)
    app[ROUTING] = routing
    app[RELOAD] = Reload(projects, routing, overrides, (auth, callbacks, credentials, viewers))
    app.add_routes(
        [
            web.post("/sms/callback", callbacks.receive),
            web.post("/sms/callback/{project_id}", callbacks.receive),
            web.post("/callbacks/{provider}/{project_id}", callbacks.receive),
            web.get("/callbacks/{provider}/{project_id}", callbacks.receive, allow_head=False),
            *_lookup_routes(settings, redis, routing, overrides, credentials, bodies, wanted),
            web.get("/livez", ops.livez),
            web.get("/readyz", ops.readyz),
            web.get("/metrics", show_metrics),
            web.get("/openapi.json", documents.openapi),
            web.get("/asyncapi.json", documents.asyncapi),
            web.get("/docs", documents.docs),
            web.get("/console", static.console),
            web.get("/static/{file}", static.file),
            web.get("/v2/{project_id}/console/events", bodies.up_to(0, viewers.stream), allow_head=False),
        ]
    )
    app.on_shutdown.append(viewers.close)
    app.cleanup_ctx.extend(  # the table of ``lifecycle``; ``runtime`` appends the report index and the watchdog
        [
            partial(lifecycle.final_counts, ops),
            partial(lifecycle.delivering, delivery, retention, streams, fetcher, traced, logger),
            partial(lifecycle.announcing, DedupeWindow(streams, settings.dedupe_window, logger)),
            partial(lifecycle.looking_up, overrides, redis, counts, logger),
            partial(lifecycle.reporting, ops, (connections, failures, new_fields, rejected), logger),
        ]
    )
    return app


def create_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Return the runner that serves the application, fast path included. It sets the switch interval of threads."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    return Runner(
        app,
        app[FAST_PATH],
        app[CONNECTIONS],
        app[PORTS],
        shutdown_timeout=settings.stop_timeout,
        keepalive=KEEPALIVE,
        first_request=settings.read_timeout,
    )


def _retention(settings: Settings, client: Client, routing: Routing, logger: log.Logger) -> Retention:
    def topics() -> dict[str, tuple[str, ...]]:
        return routing.topics({project.id: project.consumer_groups for project in settings.projects.values()})

    return Retention(
        client,
        topics,
        settings.retention,
        settings.max_entries,
        logger,
        routed=routing.routed_topics,
    )


def _lookup_routes(  # noqa: PLR0913, PLR0917 the parts of the lookups
    settings: Settings,
    redis: Client,
    routing: Routing,
    overrides: RouteOverrides,
    credentials: Credentials,
    bodies: LimitedBodies,
    wanted: asyncio.Event,
) -> list[web.RouteDef]:
    """Wire the lookups. The first one that needs the report index sets ``wanted``."""
    parser = SmnParser(read_body)
    up_to = bodies.up_to
    iam = Iam(settings.projects, credentials, parser)
    events = SmsEvents(credentials, parser, routing, overrides)
    messages = SmsMessages(credentials, parser, Messages(redis, settings.replicas), wanted)
    index = Reports(redis, timedelta(seconds=settings.report_retention))
    scope = SearchScope(redis, routing, index, settings.data_dir / "spool", settings.dedupe_window, {})
    search = SmsSearch(credentials, parser, scope, wanted)
    reports = SmsReports(credentials, parser, index, settings.report_retention, wanted)
    return [
        # A GET may have a body, and the signature covers it.
        web.get(f"{SMS}/callback", up_to(PUT_BODY, events.list)),
        web.put(f"{SMS}/callback", up_to(PUT_BODY, events.update)),
        web.get(f"{SMS}/report", up_to(PUT_BODY, reports.list)),
        web.get(f"{SMS}/events/{{id:[^/]+}}", up_to(PUT_BODY, search.find)),
        web.post(f"{SMS}/message", up_to(BATCH_BODY, messages.register_all)),
        # An id may contain braces, which aiohttp's default pattern excludes.
        web.get(f"{SMS}/message/{{message_id:[^/]+}}", up_to(PUT_BODY, messages.get)),
        web.put(f"{SMS}/message/{{message_id:[^/]+}}", up_to(PUT_BODY, messages.register)),
        web.post("/v3/auth/tokens", up_to(TOKEN_BODY, iam.issue)),
        web.get("/v3/projects", up_to(TOKEN_BODY, iam.projects)),
    ]
