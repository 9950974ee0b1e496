"""The SMS API of Huawei Cloud SMN: routes (ListSmsEvent, UpdateSmsEvent) and status reports (ListSmsMsgReport).

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
    from receiver.routing import ProjectRoutes, Routing
    from receiver.web.smn.auth import Credentials
    from receiver.web.smn.parsing import SmnParser

    T = TypeVar("T")

#: The order of the document's example; SMN does not know the last one.
_ORDER: Final = (EventType.REPLY, EventType.FAIL, EventType.SUCCESS, EventType.SENT)
#: A client that asks for all that is kept has computed its start a little ago, by a clock of its own.
_GRACE_MS: Final = 60_000
#: Seconds for Redis to answer a lookup.
_REDIS_TIMEOUT: Final = 5.0


async def with_redis_timeout(reply: Awaitable[T]) -> T:
    """Return Redis' reply. Raises SmnError (500, SMN.0016) if Redis fails, or takes longer than 5 s."""
    try:
        async with asyncio.timeout(_REDIS_TIMEOUT):
            return await reply
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        raise error_codes.DATABASE.error() from error


class SmsEvents:
    """Reads and changes the topic of each event type."""

    def __init__(
        self, credentials: Credentials, parser: SmnParser, routing: Routing, overrides: RouteOverrides
    ) -> None:
        self._credentials = credentials
        self._parser = parser
        self._routing = routing
        self._overrides = overrides

    async def list(self, request: web.Request) -> web.Response:
        """ListSmsEvent: ``GET /v2/{project_id}/notifications/sms/callback[?event_type=]``. Raises SmnError.

        SMN's three types, and ``sms_sent_event`` where the project publishes states that are not final. A partitioned
        topic has ``stream_keys``, a field of ours: every stream to read.
        """
        project, _ = await self._credentials.check(request)
        query: Any = await self._parser.parse(EventQuery(), request, location="query")
        wanted = query.get("event_type")
        routes = self._routing[project.id]
        if wanted is not None and wanted not in routes.types:
            raise error_codes.EVENT_TYPE.error()
        callback = [
            _route(routes, event_type)
            for event_type in _ORDER
            if event_type in routes.types and wanted in (None, event_type)
        ]
        return smn_response({"callback": callback})

    async def update(self, request: web.Request) -> web.Response:
        """UpdateSmsEvent: ``PUT …/sms/callback``. Effective here at once, and on every replica within a second.

        Raises SmnError. Then nothing has changed, except that after SMN.0016 (Redis failed) the outcome is unknown and
        the request may be repeated.
        """
        project, caller_name = await self._credentials.check(request)
        body: Any = await self._parser.parse(Routes(), request, location="json")
        published = self._routing[project.id].types
        routes: dict[EventType, str | None] = {}
        for item in body["callback"]:
            event_type, urn = EventType(item["event_type"]), item["topic_urn"] or None
            if event_type in routes or event_type not in published:
                raise error_codes.EVENT_TYPE.error()
            if urn is not None and topic_problem(urn, project.id) is not None:
                raise error_codes.ROUTES[event_type].error()
            routes[event_type] = urn
        try:
            await with_redis_timeout(self._overrides.change(project.id, routes, caller_name))
        except TooManyTopicsError:
            raise error_codes.TOO_MANY_TOPICS.error() from None
        return smn_response({})


def _route(routes: ProjectRoutes, event_type: EventType) -> dict[str, Any]:
    route: dict[str, Any] = {"event_type": event_type, "topic_urn": routes.table[event_type]}
    if event_type in routes.partitions:
        route["stream_keys"] = routes.streams(event_type)
    return route


class SmsReports:
    """Looks up the status reports of messages."""

    def __init__(
        self,
        credentials: Credentials,
        parser: SmnParser,
        reports: Reports,
        retention: float,
        index_needed: asyncio.Event,
    ) -> None:
        """``retention`` is in seconds. The first look-up sets ``index_needed``, which starts the report index."""
        self._credentials = credentials
        self._parser = parser
        self._reports = reports
        self._retention_ms = int(retention * 1000)
        period = f"the past {duration(retention)} (RECEIVER_REPORT_RETENTION)"
        self._too_old = f"The start time and end time must be within {period}."
        self._index_needed = index_needed

    async def list(self, request: web.Request) -> web.Response:
        """ListSmsMsgReport: ``GET …/sms/report``, newest first. Raises SmnError."""
        project, _ = await self._credentials.check(request)
        self._index_needed.set()
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
