"""The only wiring: every part is made here and handed to those who need it. Opens in order, closes in reverse."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from receiver import log, metrics
from receiver.delivery.delivery import Delivery
from receiver.delivery.publisher import connect
from receiver.descriptors import room_for
from receiver.lookups import Messages, Reports
from receiver.lookups.counts import IndexCounts
from receiver.peers import Peers
from receiver.route_overrides import RouteOverrides
from receiver.routing import Routing
from receiver.tasks import cancel_and_wait
from receiver.web.admission import AdmissionControl
from receiver.web.auth_failures import AuthFailures
from receiver.web.browsers import BrowserGuard
from receiver.web.callback_auth import CallbackAuth
from receiver.web.callbacks import Callbacks
from receiver.web.client_address import ClientAddresses
from receiver.web.connections import Connections
from receiver.web.documents.operations import SMS
from receiver.web.documents.served import Documents
from receiver.web.fast_path import FastPath
from receiver.web.fetcher import Fetcher
from receiver.web.middleware import ErrorResponses
from receiver.web.ops import Ops
from receiver.web.server import Runner
from receiver.web.smn.api import SmsEvents, SmsReports
from receiver.web.smn.auth import Credentials
from receiver.web.smn.bodies import LimitedBodies, read_body
from receiver.web.smn.iam import TOKEN_BODY, Iam
from receiver.web.smn.messages import SmsMessages
from receiver.web.smn.parsing import SmnParser
from receiver.web.smn.request_schemas import BATCH_BODY, PUT_BODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from receiver.settings import Settings

OPS: Final = web.AppKey("ops", Ops)
DELIVERY: Final = web.AppKey("delivery", Delivery)
#: Set when somebody looks reports up: the report index is of use.
INDEX_WANTED: Final = web.AppKey("index wanted", asyncio.Event)
CONNECTIONS: Final = web.AppKey("connections", Connections)
FAST_PATH: Final = web.AppKey("fast_path", FastPath)
#: Seconds that an idle connection is kept. It bounds a sender that does not end its later headers, too.
KEEPALIVE: Final = 75.0
#: Connections to Redis that all lookups share, and seconds that one may wait for its turn: less than a lookup may take.
_LOOKUP_CONNECTIONS: Final = 50
_LOOKUP_TURN: Final = 4.0
#: Seconds for which a thread may compute while the event loop waits, which it may have to do some five times a request.
#: While a thread read a batch, Python's own 5 ms made 80 ms of /livez, and 1 ms made 30. It costs nothing otherwise.
_SWITCH_INTERVAL: Final = 1e-3
#: Seconds between two looks at what the indexers have done.
_SHOW_INDEX_EVERY: Final = 2.0
#: Seconds between reports to the other workers.
_PUBLISH_EVERY: Final = 1.0
#: Seconds for the lookups, and for delivery, to close.
_LOOKUPS_CLOSE, _DELIVERY_CLOSE = 1.0, 4.0
CLOSE_TIMEOUT: Final = _LOOKUPS_CLOSE + _DELIVERY_CLOSE


def create_app(settings: Settings, redis_url: str, peers: Peers | None = None) -> web.Application:
    """Wire the service for a Redis. Nothing is opened before the application starts.

    ``peers`` are the other workers, if there are any.
    """
    logger = log.configure(settings.log_level)
    routing = Routing(settings.projects.values())
    delivery = Delivery(settings, redis_url, routing, logger)
    addresses = ClientAddresses(settings.trusted_proxies)
    failures = AuthFailures(logger)
    browsers = BrowserGuard(any_host=settings.allow_open)
    auth = CallbackAuth(settings.projects, addresses, failures, browsers)
    fetcher = Fetcher(settings.fetch_proxy, logger)
    admission = AdmissionControl(settings.max_inflight_bytes, settings.max_inflight_events)
    callbacks = Callbacks(settings, auth, admission, fetcher, routing, delivery)
    peers = peers or Peers()
    ops = Ops(delivery, admission, peers, logger)

    redis = _sharing(connect(redis_url))  # lookups never wait for, nor hold up, the connections of callbacks
    store = RouteOverrides(redis, routing, logger)
    credentials = Credentials(settings.projects, read_body, browsers, addresses, failures)
    wanted = asyncio.Event()
    bodies = LimitedBodies(admission, settings.read_timeout)

    # The figures name the projects and their topics; health and the documents are the same for everybody.
    figures = browsers.before(ops.metrics) if any(p.open for p in settings.projects.values()) else ops.metrics
    documents = Documents()
    errors = ErrorResponses(logger)
    app = web.Application(middlewares=[errors])
    app[OPS] = ops
    app[DELIVERY] = delivery
    app[INDEX_WANTED] = wanted
    connections = app[CONNECTIONS] = Connections(room_for(settings.max_connections), logger)
    app[FAST_PATH] = FastPath(auth, callbacks, errors)
    app.add_routes(
        [
            web.post("/sms/callback", callbacks.receive),
            web.post("/sms/callback/{project_id}", callbacks.receive),
            web.post("/callbacks/{provider}/{project_id}", callbacks.receive),
            web.get("/callbacks/{provider}/{project_id}", callbacks.receive, allow_head=False),
            *_lookup_routes(settings, redis, routing, store, credentials, bodies, wanted),
            web.get("/livez", ops.livez),
            web.get("/readyz", ops.readyz),
            web.get("/metrics", figures),
            web.get("/openapi.json", documents.openapi),
            web.get("/asyncapi.json", documents.asyncapi),
            web.get("/docs", documents.docs),
        ]
    )

    async def delivering(_app: web.Application) -> AsyncIterator[None]:
        await delivery.open()
        yield
        await fetcher.close()
        if not await _closed(delivery.close(), _DELIVERY_CLOSE):
            logger.error("delivery.not_closed", **delivery.unfinished())

    async def looking_up(_app: web.Application) -> AsyncIterator[None]:
        await store.open()
        # Counted for all replicas together, so one worker shows it.
        showing = asyncio.create_task(_show_index(IndexCounts(redis), logger)) if peers.number == 1 else None
        yield
        await cancel_and_wait(showing)
        if not await _closed(_both(store.close(), redis.aclose()), _LOOKUPS_CLOSE):
            logger.warning("lookups.not_closed")

    async def publishing(_app: web.Application) -> AsyncIterator[None]:
        ops.publish()
        reporting = asyncio.create_task(_report(ops, connections, failures))
        yield
        reporting.cancel()

    async def counting(_app: web.Application) -> AsyncIterator[None]:
        yield
        ops.publish()

    # The first to open closes last: what is counted until then counts.
    app.cleanup_ctx.extend([counting, delivering, looking_up, publishing])
    return app


def _lookup_routes(  # noqa: PLR0913, PLR0917 what the lookups are made of
    settings: Settings,
    redis: Redis,
    routing: Routing,
    store: RouteOverrides,
    credentials: Credentials,
    bodies: LimitedBodies,
    wanted: asyncio.Event,
) -> list[web.RouteDef]:
    """Wire the lookups. ``wanted`` is set by the first one that needs the report index."""
    parser = SmnParser(read_body)
    up_to = bodies.up_to
    iam = Iam(settings.projects, credentials, parser)
    events = SmsEvents(credentials, parser, routing, store)
    messages = SmsMessages(credentials, parser, Messages(redis), wanted)
    kept = timedelta(seconds=settings.report_retention)
    reports = SmsReports(credentials, parser, Reports(redis, kept), settings.report_retention, wanted)
    return [
        # A signature covers the body of a GET too, should there be one.
        web.get(f"{SMS}/callback", up_to(PUT_BODY, events.list)),
        web.put(f"{SMS}/callback", up_to(PUT_BODY, events.update)),
        web.get(f"{SMS}/report", up_to(PUT_BODY, reports.list)),
        web.post(f"{SMS}/message", up_to(BATCH_BODY, messages.register_all)),
        # An id may have braces, which aiohttp's own pattern leaves out.
        web.get(f"{SMS}/message/{{message_id:[^/]+}}", up_to(PUT_BODY, messages.get)),
        web.put(f"{SMS}/message/{{message_id:[^/]+}}", up_to(PUT_BODY, messages.register)),
        web.post("/v3/auth/tokens", up_to(TOKEN_BODY, iam.issue)),
        web.get("/v3/projects", up_to(TOKEN_BODY, iam.projects)),
    ]


def create_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Return what serves the application, with the short way for callbacks. Threads let the event loop go first."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    return Runner(
        app,
        app[FAST_PATH],
        app[CONNECTIONS],
        shutdown_timeout=settings.stop_timeout,
        keepalive=KEEPALIVE,
        first_request=settings.read_timeout,
    )


def _sharing(client: Redis) -> Redis:
    """Return a client whose commands wait for a connection when all are in use: redis-py's own refuses the 101st."""
    pool = client.connection_pool
    return Redis.from_pool(
        BlockingConnectionPool(
            max_connections=_LOOKUP_CONNECTIONS,
            timeout=_LOOKUP_TURN,
            connection_class=pool.connection_class,
            **pool.connection_kwargs,
        )
    )


async def _show_index(counts: IndexCounts, logger: log.Logger) -> None:
    """Show what the indexers have done. While Redis is away the last known counts stay."""
    while True:
        try:
            for outcome, count in (await counts.all()).items():
                metrics.INDEX_ENTRIES.labels(outcome).set(count)
        except (RedisError, OSError, ValueError) as error:  # the last: somebody else has written there
            logger.debug("index.counts_unknown", error=str(error))
        await asyncio.sleep(_SHOW_INDEX_EVERY)


async def _report(ops: Ops, *parts: Connections | AuthFailures) -> None:
    while True:
        await asyncio.sleep(_PUBLISH_EVERY)
        for part in parts:
            part.report()
        ops.publish()


async def _closed(closing: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Tell whether a part has closed within a time."""
    try:
        async with asyncio.timeout(seconds):
            await closing
    except TimeoutError:
        return False
    return True


async def _both(*closing: Coroutine[Any, Any, None]) -> None:
    for one in closing:
        await one
