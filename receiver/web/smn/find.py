"""Finds what became of a message: ``GET …/sms/events/{id}``. SMN has no such call; names and errors are as in its API.

A request does bounded work. What it could not search, a second one does, from ``next_end_time`` on.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final

from marshmallow import ValidationError

from receiver.events import utc
from receiver.search.finder import Search, SearchRequest
from receiver.search.streams import SearchBudget
from receiver.web.admission import Slots
from receiver.web.middleware import smn_response
from receiver.web.smn import error_codes
from receiver.web.smn.api import with_redis_timeout
from receiver.web.smn.request_schemas import FindPath, FindQuery
from receiver.web.smn.response_schemas import FoundEvent

if TYPE_CHECKING:
    import asyncio

    from aiohttp import web

    from receiver.search.result import SearchResult
    from receiver.search.scope import SearchScope
    from receiver.web.smn.auth import Credentials
    from receiver.web.smn.parsing import SmnParser

#: Bounds of one request: seconds, and entries. Redis works for at most half of that time.
_SECONDS: Final = 2.0
_ENTRIES: Final = 1_000_000
#: Seconds that a request waits for its slot.
_MAX_WAIT: Final = 2.0


class SmsSearch:
    """Finds events by message id, event id, entry id or phone number."""

    def __init__(
        self, credentials: Credentials, parser: SmnParser, scope: SearchScope, index_needed: asyncio.Event
    ) -> None:
        """``scope`` covers all projects. The first request sets ``index_needed``, which starts the index."""
        self._credentials = credentials
        self._parser = parser
        self._scope = scope
        self._index_needed = index_needed
        # One search at a time in each worker: more would take more than half of Redis' time.
        self._searches = Slots(1, "another search is running; send again later")

    async def find(self, request: web.Request) -> web.Response:
        """Return the events about an id. Raises SmnError, or OverloadedError (503) while another search runs."""
        project, _ = await self._credentials.check(request)
        self._index_needed.set()
        query: Any = await self._parser.parse(FindQuery(), request, location="query")
        scope = dataclasses.replace(self._scope, sign_ids={project.id: project.own_sign_id})
        async with self._searches.slot(_MAX_WAIT):
            budget = SearchBudget(_ENTRIES, time.monotonic() + _SECONDS)
            search = Search(scope, SearchRequest(text=_id(request), budget=budget, **query))
            found = await with_redis_timeout(_all(search))
        return smn_response(_answer(search, found))


async def _all(search: Search) -> list[SearchResult]:
    return [result async for result in search.results()]


def _answer(search: Search, found: list[SearchResult]) -> dict[str, object]:
    back_to = search.back_to_ms
    return {
        "count": len(found),
        "complete": search.complete,
        "searched_back_to": None if back_to is None else utc(back_to // 1000),
        "next_end_time": search.resume_ms,
        "problems": search.problems,
        "data": FoundEvent(many=True).dump(found),
    }


def _id(request: web.Request) -> str:
    try:
        loaded: Any = FindPath().load({"id": request.match_info["id"]})
    except ValidationError:
        raise error_codes.MESSAGE_ID.error() from None
    return str(loaded["id"])
