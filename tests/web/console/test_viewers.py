"""The stream of the console: who may read it, what it tells, and what it costs."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from messages import FAIL, SUCCESS, body, reply, report
from smn import PROJECT

from receiver.events import EventType
from receiver.web.console.viewers import MAX_VIEWERS
from receiver.web.documents.samples import sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientResponse
    from conftest import Client, Service
    from redis.asyncio import Redis
    from servers import Receiver
    from smn import Smn

EVENTS = "/v2/default/console/events"


class Watch:
    """A viewer that reads messages."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, Any]:
        """Return the next message."""
        while True:
            line = await self.response.content.readuntil(b"\n")
            if line.startswith(b"data: "):
                message: dict[str, Any] = json.loads(line[6:])
                return message

    async def seen(self, number: int) -> list[dict[str, Any]]:
        """Read messages until they have shown a number of events, and return these."""
        events: list[dict[str, Any]] = []
        while len(events) < number:
            events += await self.until(lambda message: message["events"])
        return events

    async def until(self, found: Callable[[dict[str, Any]], Any]) -> Any:
        """Read messages until one has what is looked for."""
        async with asyncio.timeout(20):
            while not (value := found(await self.next())):
                pass
            return value


@asynccontextmanager
async def watching(client: Client, path: str = EVENTS, **headers: str) -> AsyncIterator[Watch]:
    """Open a stream."""
    async with client.get(path, headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield Watch(response)


def named(message: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    """Return the figures of a provider, or of all."""
    return next((row for row in message["providers"] if row["name"] == name), {})


async def store(redis: Redis, topic: str, event_type: EventType, number: int) -> None:
    """Store events without the service: many at once could wait in its spool on a busy machine."""
    event = json.dumps(sample(event_type))
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(number):
            pipe.xadd(topic, {"data": event})
        await pipe.execute()


async def test_it_shows_what_was_there_before_and_what_comes(client: Client) -> None:
    """Each event once, newest first; and the same numbers by type and provider."""
    await client.post("/sms/callback", data=body([report("5000:1"), report("5000:2", report_status="FAIL")]))
    async with watching(client) as watch:
        seen = await watch.seen(2)
        assert {event["message_id"] for event in seen} == {"5000:1", "5000:2"}
        await client.post("/sms/callback", data=body(reply("a person's text")))
        new = await watch.seen(1)
        assert [(event["type"], event["word"]) for event in new] == [("sms_reply_event", None)]
        message = await watch.next()
    figures = named(message, "tencent")
    assert figures == {**named(message), "name": "tencent"}
    assert [figures[f"sms_{name}_event"] for name in ("success", "fail", "reply", "rejected")] == [1, 1, 1, 0]
    assert message["routes"][0]["topic"] == SUCCESS
    assert message["service"]["workers"][0]["route"] == "redis"


async def test_it_tells_no_number_and_no_text(client: Client) -> None:
    """Neither of reports nor of replies, nor in the words of a provider or in reasons."""
    number = "13800138000"
    told = [report("5000:1", mobile=number, errmsg=f"no route to {number}"), report("x", report_status=number)]
    await client.post("/sms/callback", data=body(told))
    await client.post("/sms/callback", data=body(reply("a person's text", mobile=number)))
    async with watching(client) as watch:
        events = await watch.seen(3)
        message = await watch.until(lambda one: one["quarantine"]["count"] == 1 and one)
    assert {event["number"] for event in events} == {"138****8000", None}
    text = json.dumps([events, message])
    assert number not in text
    assert "a person's text" not in text


async def test_the_quarantine_is_grouped_by_reason(client: Client) -> None:
    """Items with the same reason are one group, wherever the mistake stood in its callback."""
    bad = [report(str(number), mobile=None) for number in range(3)]
    await client.post("/sms/callback", data=body([*bad, report("5000:1"), report("y", report_status="?")]))
    async with watching(client) as watch:
        quarantine = await watch.until(lambda one: one["quarantine"]["count"] == 4 and one["quarantine"])
    assert quarantine["read"] == 4
    assert [(group["provider"], group["count"]) for group in quarantine["reasons"]] == [("tencent", 3), ("tencent", 1)]
    assert quarantine["reasons"][0]["reason"].startswith("mobile: ")


async def test_more_than_can_be_read_are_counted(client: Client, redis: Redis) -> None:
    """The newest entries are read, and stand for all that came with them."""
    async with watching(client) as watch:
        await watch.next()
        for _ in range(3):
            await store(redis, SUCCESS, EventType.SUCCESS, 3000)
            await watch.until(lambda message: message["new"])
        # The first burst finds a quiet stream, whose entries are not counted.
        await watch.until(lambda message: named(message)["sms_success_event"] >= 6000)


async def test_the_past_counts_as_far_as_the_busiest_stream_reaches(client: Client, redis: Redis) -> None:
    """Else a rare type would look frequent: its entries reach back further."""
    await store(redis, FAIL, EventType.FAIL, 50)
    await store(redis, SUCCESS, EventType.SUCCESS, 6000)
    async with watching(client) as watch:
        message = await watch.next()
    assert 0 < message["covered"] < message["window"]
    assert named(message)["sms_fail_event"] == 0
    assert named(message)["sms_success_event"] > 1000


async def test_viewers_see_groups_and_their_backlog(service: Service) -> None:
    """As retention measures them."""
    client = await service('[projects.default]\ndefault = true\nconsumer_groups = ["billing"]\n')
    await client.post("/sms/callback", data=body([report()]))
    async with watching(client) as watch:
        late = await watch.until(lambda m: [g for g in m["groups"]["shown"] if g["group"] == "billing" and g["lag"]])
    assert [(group["topic"], group["lag"], group["pending"]) for group in late] == [(SUCCESS, 1, 0)]


async def test_it_needs_the_credentials_of_the_lookups(smn: Smn) -> None:
    """Wrong ones are counted, and those of another project are refused."""
    client, path = smn.client, f"/v2/{PROJECT}/console/events"
    assert (await client.get(path)).status == 401
    assert (await client.get(path, headers={"X-Auth-Token": "wrong"})).status == 401
    assert (await client.get("/v2/other/console/events", headers={"X-Auth-Token": "static-token"})).status == 403
    async with watching(client, path, **{"X-Auth-Token": "static-token"}) as watch:
        assert (await watch.next())["project"] == PROJECT


async def test_a_foreign_page_cannot_watch_an_open_project(client: Client) -> None:
    """As it can read no lookup."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await client.get(EVENTS, headers=headers)).status == 403


async def test_projects_see_their_own_events_alone(service: Service) -> None:
    """Neither events nor figures of another one."""
    client = await service("[projects.default]\ndefault = true\n[projects.other]\n")
    await client.post("/sms/callback/other", data=body([report(), report("bad", mobile=None)]))
    async with watching(client) as ours, watching(client, "/v2/other/console/events") as theirs:
        assert len(await theirs.seen(2)) == 2
        message = await ours.next()
        assert (message["events"], message["providers"], message["quarantine"]["count"]) == ([], [], 0)


async def test_nobody_looks_so_nothing_runs(client: Client) -> None:
    """One task reads for all viewers of a project, and ends with the last of them."""

    def feeds() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "console feed"]

    assert feeds() == []
    async with watching(client) as one, watching(client) as two:
        await one.next()
        await two.next()
        assert len(feeds()) == 1
    async with asyncio.timeout(20):
        while feeds():
            await asyncio.sleep(0.01)


async def test_viewers_are_bounded(client: Client) -> None:
    """One too many is told to come again; a place becomes free when one leaves."""
    held = [await client.get(EVENTS) for _ in range(MAX_VIEWERS)]
    refused = await client.get(EVENTS)
    assert (refused.status, "Retry-After" in refused.headers) == (503, True)
    held[0].close()
    async with asyncio.timeout(20):
        while (again := await client.get(EVENTS)).status != 200:
            await asyncio.sleep(0.05)
    for response in [*held, again]:
        response.close()


async def test_redis_goes_away_and_comes_back(service: Service, own_valkey: Any) -> None:
    """Viewers stay connected, are told, and see events again."""
    redis = own_valkey()
    client = await service(REDIS_URL=redis.url)
    async with watching(client) as watch:
        assert (await watch.next())["reachable"]
        redis.kill()
        await watch.until(lambda message: not message["reachable"])
        own_valkey(redis.port)
        await watch.until(lambda message: message["reachable"])
        await client.post("/sms/callback", data=body([report()]))
        await watch.until(lambda message: message["events"])


def test_viewers_do_not_hold_up_the_end(serve: Callable[..., Receiver]) -> None:
    """Neither one that reads nor one that does not: the stop needs none of the time for requests in flight."""
    service = serve(RECEIVER_STOP_TIMEOUT="300s")
    with socket.create_connection(("127.0.0.1", service.port)) as idle:
        idle.sendall(b"GET /v2/default/console/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        connection.request("GET", EVENTS)
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        assert service.stop() == 0
        assert response.read().endswith(b"\n")
