"""The SMS API of Huawei Cloud SMN: routes, status reports, texts, and what the sending side registers.

https://support.huaweicloud.com/api-smn/smn_api_55000.html. Every answer is a JSON object with its ``request_id``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from receiver.events import EventType
from receiver.lookups.reports import ReportQuery
from receiver.route_overrides import TooManyTopicsError
from receiver.routing import topic_problem
from receiver.units import duration
from receiver.web.middleware import smn_response
from receiver.web.smn import error_codes
from receiver.web.smn.request_schemas import EventQuery, ReportQueryArgs, Routes
from receiver.web.smn.response_schemas import ReportRow

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar

    from aiohttp import web

    from receiver.lookups.reports import Reports
    from receiver.route_overrides import RouteOverrides
    from receiver.routing import Routing
    from receiver.web.smn.auth import Credentials
    from receiver.web.smn.parsing import SmnParser

    T = TypeVar("T")

#: The order of the document's example.
_ORDER: Final = (EventType.REPLY, EventType.FAIL, EventType.SUCCESS)
#: A client that asks for all that is kept has computed its start a little ago, by a clock of its own.
_GRACE_MS: Final = 60_000
#: Seconds that Redis may take to answer a lookup.
_REDIS_TIMEOUT: Final = 5.0


async def with_redis_timeout(work: Awaitable[T]) -> T:
    """Return what Redis answers. Raises SmnError (500, SMN.0016) when it fails, or takes more than 5 s."""
    try:
        async with asyncio.timeout(_REDIS_TIMEOUT):
            return await work
    except (RedisError, OSError) as error:  # a time-out is an OSError
        raise error_codes.DATABASE.error() from error


class SmsEvents:
    """Which topic each event type routes to."""

    def __init__(self, credentials: Credentials, parser: SmnParser, routing: Routing, store: RouteOverrides) -> None:
        self._credentials = credentials
        self._parser = parser
        self._routing = routing
        self._store = store

    async def list(self, request: web.Request) -> web.Response:
        """ListSmsEvent: ``GET /v2/{project_id}/notifications/sms/callback[?event_type=]``. Raises SmnError."""
        project, _ = await self._credentials.check(request, request.match_info["project_id"])
        query: Any = await self._parser.parse(EventQuery(), request, location="query")
        wanted = query.get("event_type")
        routes = self._routing[project.id].routed()
        callback = [{"event_type": kind, "topic_urn": routes[kind]} for kind in _ORDER if wanted in (None, kind)]
        return smn_response({"callback": callback})

    async def update(self, request: web.Request) -> web.Response:
        """UpdateSmsEvent: ``PUT …/sms/callback``. In force here at once, on every replica within a second.

        Raises SmnError; then nothing has changed, unless Redis failed (SMN.0016): then the request may be repeated.
        """
        project, who = await self._credentials.check(request, request.match_info["project_id"])
        body: Any = await self._parser.parse(Routes(), request, location="json")
        routes: dict[EventType, str | None] = {}
        for item in body["callback"]:
            kind, urn = EventType(item["event_type"]), item["topic_urn"] or None
            if kind in routes:
                raise error_codes.EVENT_TYPE.error()
            if urn is not None and topic_problem(urn, project.id) is not None:
                raise error_codes.ROUTES[kind].error()
            routes[kind] = urn
        try:
            await with_redis_timeout(self._store.change(project.id, routes, who))
        except TooManyTopicsError:
            raise error_codes.TOO_MANY_TOPICS.error() from None
        return smn_response({})


class SmsReports:
    """What became of messages."""

    def __init__(
        self,
        credentials: Credentials,
        parser: SmnParser,
        reports: Reports,
        retention: float,
        wanted: asyncio.Event,
    ) -> None:
        """Hand the collaborators over; ``retention`` in seconds.

        ``wanted`` is set by the first look-up: somebody needs the index.
        """
        self._credentials = credentials
        self._parser = parser
        self._reports = reports
        self._retention_ms = int(retention * 1000)
        kept = f"the past {duration(retention)} (RECEIVER_REPORT_RETENTION)"
        self._too_old = f"The start time and end time must be within {kept}."
        self._wanted = wanted

    async def list(self, request: web.Request) -> web.Response:
        """ListSmsMsgReport: ``GET …/sms/report``, newest first. Raises SmnError."""
        project, _ = await self._credentials.check(request, request.match_info["project_id"])
        self._wanted.set()
        arguments: Any = await self._parser.parse(ReportQueryArgs(), request, location="query")
        query = ReportQuery(**arguments)
        self._check_times(query)
        found = await with_redis_timeout(self._reports.find(project.id, query, project.own_sign_id))
        return smn_response({"count": len(found), "data": ReportRow(many=True).dump(found)})

    def _check_times(self, query: ReportQuery) -> None:
        if query.end_ms < query.start_ms:
            raise error_codes.REVERSED.error()
        if query.start_ms < time.time() * 1000 - self._retention_ms - _GRACE_MS:
            raise error_codes.TOO_OLD.error(self._too_old)
