"""FindSmsEvents: the search over HTTP, bounded and authenticated."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import messages as tencent
import msgspec
import pytest
from servers import free_port
from smn import OTHER, PROJECT, Smn

from receiver.lookups.reports import Reports
from receiver.projects import Project
from receiver.routing import Routing
from receiver.search.finder import Search, SearchRequest
from receiver.search.scope import SearchScope
from receiver.search.streams import STEP, SearchBudget

if TYPE_CHECKING:
    from pathlib import Path

    import redis.asyncio
    from conftest import Client, Service

COUNT = 3 * STEP + 7
#: An hour ago: services of other tests, on the same Redis, trim what is older than their retention.
FIRST_MS = int(time.time() * 1000) - 3_600_000
SUCCESS = f"urn:smn:cn-north-4:{PROJECT}:sms_success"


async def _post(client: Client, redis: redis.asyncio.Redis, *items: dict[str, Any]) -> None:
    """Post reports, and wait until they are in the stream: on a busy machine they may take the way of the spool."""
    response = await client.post("/sms/callback?key=callback-key", json=[*items])
    assert response.status == 200
    async with asyncio.timeout(10):
        while await redis.xlen(SUCCESS) < len(items):
            await asyncio.sleep(0.01)


async def test_an_event_is_found_with_its_groups_and_its_report(smn: Smn, redis: redis.asyncio.Redis) -> None:
    await redis.xgroup_create(SUCCESS, "billing", id="0", mkstream=True)
    await _post(smn.client, redis, tencent.report("5000:1"), tencent.report("5000:2"))
    sent = {"message": "text", "mobile": "13800138000"}
    assert (await smn("PUT", "/message/5000:1", json=sent))[0] == 200
    for path in ("/events/5000:1", "/events/%2B8613800138000"):
        status, body = await smn("GET", path)
        found = body["data"][-1]
        assert (status, body["complete"], body["next_end_time"], body["problems"]) == (200, True, None, [])
        assert (found["verdict"], found["topic_urn"]) == ("published", SUCCESS)
        assert found["groups"] == [
            {"group": "billing", "state": "not read", "consumer": None, "idle_ms": None, "deliveries": None}
        ]
        assert found["report"]["mobile"] == "13800138000"
        assert found["event"]["data"]["message_id"] == "5000:1"
    assert body["count"] == 2


async def test_another_project_finds_nothing_of_it(smn: Smn, redis: redis.asyncio.Redis) -> None:
    await _post(smn.client, redis, tencent.report("5000:1"))
    path = f"/v2/{OTHER}/notifications/sms/events/5000:1"
    assert (await smn.client.get(path, headers={"X-Auth-Token": "static-token"})).status == 403
    answer = await smn.client.get(path, headers={"X-Auth-Token": "token-of-the-other"})
    assert [found["verdict"] for found in (await answer.json())["data"]] == ["not seen"]
    assert (await smn.client.get(path)).status == 401


async def test_ids_and_times_that_cannot_be_are_refused(smn: Smn) -> None:
    assert (await smn("GET", f"/events/{'x' * 129}"))[1]["code"] == "SMN.0102"
    for query, code in (("start_time=x", "SMN.0103"), ("end_time=-1", "SMN.0104"), ("limit=0", "SMN.0015")):
        status, body = await smn("GET", f"/events/5000:1?{query}")
        assert (status, body["code"]) == (400, code)


@pytest.fixture
async def scope(redis: redis.asyncio.Redis, tmp_path: Path) -> SearchScope:
    """Return where to search: three full steps of one person's events, a millisecond apart, and some more."""
    async with redis.pipeline() as pipe:
        for number in range(COUNT):
            data = {"message_id": f"5000:{number}", "mobile": "+8613800138000"}
            event = {"id": f"{number:032x}", "type": "sms_success_event", "data": data}
            pipe.xadd(tencent.SUCCESS, {"data": msgspec.json.encode(event)}, id=f"{FIRST_MS + number}-0")
        await pipe.execute()
    project = Project(id="default", default=True)
    return SearchScope(redis, Routing([project]), Reports(redis), tmp_path / "spool", 86400, {"default": "default"})


async def _to_the_end(scope: SearchScope, text: str, limit: int, entries: int) -> tuple[list[Search], list[str | None]]:
    """Search again and again, each time from where the last search ended."""
    searches: list[Search] = []
    found: list[str | None] = []
    while not searches or searches[-1].resume_ms is not None:
        newest = searches[-1].resume_ms if searches else None
        request = SearchRequest(
            text=text, oldest_ms=0, newest_ms=newest, limit=limit, budget=SearchBudget(entries=entries)
        )
        searches.append(Search(scope, request))
        found += [result.entry_id async for result in searches[-1].results()]
        assert len(searches) < 20
    return searches, found


async def test_what_a_request_has_no_time_for_the_next_one_searches(scope: SearchScope) -> None:
    searches, found = await _to_the_end(scope, "5000:0", 20, STEP)
    assert len(searches) > 2
    assert [search.complete for search in searches].index(True) == len(searches) - 1
    assert set(found) - {None} == {f"{FIRST_MS}-0"}


async def test_a_limit_loses_no_event_and_shows_few_twice(scope: SearchScope) -> None:
    searches, found = await _to_the_end(scope, "+8613800138000", 20, 1_000_000)
    assert len(set(found) - {None}) == COUNT
    assert len(found) <= COUNT + len(searches)


async def test_a_search_of_a_large_stream_is_bounded_and_holds_up_nobody(smn: Smn, redis: redis.asyncio.Redis) -> None:
    event = {"id": "0" * 32, "type": "sms_success_event", "data": {"message_id": "x" * 40, "mobile": "13900139000"}}
    data = json.dumps(event, separators=(",", ":"))
    fill = "for i = 1, 10000 do redis.call('XADD', KEYS[1], '*', 'data', ARGV[1]) end"
    await redis.eval(fill, 1, SUCCESS, data)
    searching = asyncio.create_task(smn("GET", "/events/5000:1"))
    answered = 0
    while not searching.done():
        assert (await smn.client.get("/livez")).status == 200
        answered += 1
    status, body = await searching
    assert status == 200
    assert body["complete"] or body["next_end_time"]
    assert answered > 2, "others are served between the steps"


async def test_while_redis_is_away_an_event_is_found_in_the_spool(service: Service) -> None:
    client = await service(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (await client.post("/sms/callback", json=[tencent.report("5000:1")])).status == 200
    body = await (await client.get("/v2/default/notifications/sms/events/5000:1")).json()
    assert [found["verdict"] for found in body["data"]] == ["spooled"]
    assert (body["complete"], body["next_end_time"]) == (False, None)
    assert "Redis does not answer for 8 of 8 streams: " in body["problems"][0]
