"""The only wiring: every part is made here and handed to those who need it. Opens in order, closes in reverse."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis

from receiver import log, metrics
from receiver.delivery import Delivery
from receiver.delivery.publisher import connect
from receiver.lookups import Messages, Reports
from receiver.lookups.routes import RouteStore
from receiver.providers import PROVIDERS
from receiver.routing import Routing
from receiver.web.callbacks import AnyProvider, Callbacks
from receiver.web.documents.operations import SMS
from receiver.web.documents.served import Documents
from receiver.web.gate import Gate
from receiver.web.middleware import ErrorAnswers
from receiver.web.ops import Ops
from receiver.web.server import Runner
from receiver.web.shortcut import Shortcut
from receiver.web.smn.api import SmsEvents, SmsReports
from receiver.web.smn.auth import Credentials
from receiver.web.smn.bodies import LimitedBodies, read_body
from receiver.web.smn.iam import TOKEN_BODY, Iam
from receiver.web.smn.messages import SmsMessages
from receiver.web.smn.parsing import SmnParser
from receiver.web.smn.schemas import BATCH_BODY, PUT_BODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.settings import Settings

OPS: Final = web.AppKey("ops", Ops)
#: Set when somebody looks reports up: the report index is of use.
INDEX_WANTED: Final = web.AppKey("index wanted", asyncio.Event)
SHORTCUT: Final = web.AppKey("shortcut", Shortcut)
#: Seconds that an idle connection is kept. It bounds a sender that does not end its headers, too.
KEEPALIVE: Final = 75.0
#: Connections to Redis that all lookups share, and seconds that one may wait for its turn: less than a lookup may take.
_LOOKUP_CONNECTIONS: Final = 50
_LOOKUP_TURN: Final = 4.0
#: Seconds for which a thread may compute while the event loop waits, which it may have to do some five times a request.
#: While a thread read a batch, Python's own 5 ms made 80 ms of /livez, and 1 ms made 30. It costs nothing otherwise.
_SWITCH_INTERVAL: Final = 1e-3
#: Seconds between hand-overs of counts to the metrics; other workers read them from files.
_FLUSH_EVERY: Final = 1.0


def create_app(settings: Settings, redis_url: str) -> web.Application:
    """Wire the service for a Redis. Nothing is opened before the application starts."""
    logger = log.configure(settings.log_level)
    routing = Routing((p.region, p.id, p.routes) for p in settings.projects.values())
    delivery = Delivery(settings, redis_url, routing, logger)
    gate = Gate(settings.projects, settings.trusted_proxies)
    callbacks = {name: Callbacks(provider, settings, gate, routing, delivery) for name, provider in PROVIDERS.items()}
    ops = Ops(delivery)

    redis = _sharing(connect(redis_url))  # lookups never wait for, nor hold up, the connections of callbacks
    store = RouteStore(redis, routing, logger)
    up_to = LimitedBodies(delivery.room, settings.read_timeout).up_to
    credentials, parser = Credentials(settings.projects, read_body), SmnParser(read_body)
    iam = Iam(settings.projects, credentials, parser)
    events = SmsEvents(credentials, parser, routing, store)
    wanted = asyncio.Event()
    messages = SmsMessages(credentials, parser, Messages(redis), wanted)
    kept = timedelta(seconds=settings.report_retention)
    reports = SmsReports(credentials, parser, Reports(redis, kept), settings.report_retention, wanted)

    documents = Documents()
    errors = ErrorAnswers(logger)
    app = web.Application(middlewares=[errors])
    app[OPS] = ops
    app[INDEX_WANTED] = wanted
    app[SHORTCUT] = Shortcut(gate, callbacks, errors)
    app.add_routes(
        [
            web.post("/sms/callback", callbacks["tencent"].receive),
            web.post("/sms/callback/{project_id}", callbacks["tencent"].receive),
            web.post("/callbacks/{provider}/{project_id}", AnyProvider(callbacks).receive),
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
            web.get("/livez", ops.livez),
            web.get("/readyz", ops.readyz),
            web.get("/metrics", ops.metrics),
            web.get("/openapi.json", documents.openapi),
            web.get("/asyncapi.json", documents.asyncapi),
            web.get("/docs", documents.docs),
        ]
    )

    async def delivering(_app: web.Application) -> AsyncIterator[None]:
        await delivery.open()
        yield
        await delivery.close()

    async def looking_up(_app: web.Application) -> AsyncIterator[None]:
        await store.open()
        yield
        await store.close()
        await redis.aclose()

    async def counting(_app: web.Application) -> AsyncIterator[None]:
        flushing = asyncio.create_task(_flush_metrics(delivery))
        yield
        flushing.cancel()

    app.cleanup_ctx.extend([delivering, looking_up, counting])
    return app


def create_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Return what serves the application, with the short way for callbacks. Threads let the event loop go first."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    return Runner(app, app[SHORTCUT], shutdown_timeout=settings.stop_timeout, keepalive=KEEPALIVE)


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


async def _flush_metrics(delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(_FLUSH_EVERY)
        metrics.Tally.flush()
        delivery.room.report()
