"""Many open connections: the ones that do nothing make room, and callbacks go on."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from http_wire import ask, request, wire
from messages import OK, body, report
from servers import eventually

from receiver.descriptors import RESERVE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from http_wire import Wire
    from servers import Receiver, RedisServer

LIMIT = 10
CALLBACK = request(body([report()]))
LIVEZ = request(b"", "/livez", "GET")
SHED = 'receiver_shed_connections_total{reason="%s"}'


@pytest.fixture(scope="module")
def few(serve_all: Callable[..., Receiver]) -> Receiver:
    """Start a receiver that has few connections at a time."""
    return serve_all(RECEIVER_MAX_CONNECTIONS=str(LIMIT))


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    """Keep connections open until the end of the test."""
    async with AsyncExitStack() as stack:
        yield stack


async def opened(clients: AsyncExitStack, service: Receiver, count: int, data: bytes = b"") -> list[Wire]:
    """Open connections one after the other, and send something on each."""
    made = [await clients.enter_async_context(wire(service.port)) for _ in range(count)]
    for connection in made:
        await connection.send(data)
        if data == LIVEZ:
            assert (await connection.answer()).status == 200
    return made


async def posts(connection: Wire) -> None:
    """Post a callback on a connection, and get its ack."""
    await connection.send(CALLBACK)
    assert (await connection.answer()).json == OK


async def test_silent_connections_make_room_and_one_in_use_stays(few: Receiver, clients: AsyncExitStack) -> None:
    """Fifty of them, against ten places; a provider's own connection is not closed for them."""
    before = few.figure(SHED % "silent")
    silent = await opened(clients, few, LIMIT - 1)
    [provider] = await opened(clients, few, 1)
    await posts(provider)
    await asyncio.sleep(1.1)  # as long as a client may take for its first request
    await opened(clients, few, LIMIT - 1, b"POST /sms/callback HTTP/1.1\r\nX: ")  # no whole head is no request
    assert [await connection.rest() for connection in silent] == [b""] * len(silent)
    for _ in range(40):
        await posts(provider)
        await opened(clients, few, 1)
        assert (await ask(few.port, CALLBACK)).json == OK
    eventually(lambda: few.figure(SHED % "silent") > before + 50, "they are counted")


async def test_of_idle_connections_the_one_that_has_waited_for_longest_goes(
    few: Receiver, clients: AsyncExitStack
) -> None:
    """The others go on to be served."""
    first, *others = await opened(clients, few, LIMIT, LIVEZ)
    for connection in others:
        await posts(connection)
    assert (await ask(few.port, CALLBACK)).json == OK
    assert await first.rest() == b""
    for connection in others:
        await posts(connection)


async def test_clients_that_do_not_send_their_bodies_make_room(few: Receiver, clients: AsyncExitStack) -> None:
    """They would hold their places until the time for a body is over."""
    await opened(clients, few, LIMIT, LIVEZ)
    before = few.figure(SHED % "stalled")
    await opened(clients, few, 3 * LIMIT, request(Content_Length="1000") + b"[")
    for _ in range(LIMIT):
        assert (await ask(few.port, CALLBACK)).json == OK
    eventually(lambda: few.figure(SHED % "stalled") > before, "they are counted")


async def test_clients_that_do_not_read_their_answers_make_room(few: Receiver, clients: AsyncExitStack) -> None:
    """Answers wait in our memory once the kernel takes no more of them."""
    before = few.figure(SHED % "stalled")
    pages = request(b"", "/docs", "GET") * 200
    for connection in await opened(clients, few, LIMIT):
        await connection.send(pages)
    for _ in range(LIMIT):
        assert (await ask(few.port, CALLBACK)).json == OK
    eventually(lambda: few.figure(SHED % "stalled") > before, "they are counted")


async def test_when_all_are_at_work_a_new_one_is_503(
    serve: Callable[..., Receiver], own_valkey: Callable[..., RedisServer], clients: AsyncExitStack
) -> None:
    """None of those is closed for it; one more than the bound is let in."""
    redis = own_valkey()
    service = serve(RECEIVER_MAX_CONNECTIONS="3", REDIS_URL=redis.url, RECEIVER_PUBLISH_TIMEOUT="1.2s")
    working = await opened(clients, service, 3, LIVEZ)
    redis.signal(signal.SIGSTOP)
    try:
        for connection in working:
            await connection.send(CALLBACK)
        await asyncio.sleep(0.2)  # they have been read, and wait for Redis until it is given up
        working += await opened(clients, service, 1, CALLBACK)
        await asyncio.sleep(0.2)
        async with wire(service.port) as late:
            answer = await late.answer()
            assert (answer.status, answer.json["result"], answer.headers["retry-after"]) == (503, 503, "1")
            assert await late.rest() == b""
        assert [(await connection.answer()).json for connection in working] == [OK] * 4
    finally:
        redis.signal(signal.SIGCONT)
    eventually(lambda: service.figure(SHED % "refused") == 1, "it is counted")


async def test_a_first_request_that_does_not_come_is_not_waited_for(
    serve: Callable[..., Receiver], clients: AsyncExitStack
) -> None:
    """A connection that was used may be idle for longer."""
    service = serve(RECEIVER_READ_TIMEOUT="300ms")
    [used] = await opened(clients, service, 1, LIVEZ)
    silent = await opened(clients, service, 2)
    slow = await opened(clients, service, 2, b"POST /sms/callback HTTP/1.1\r\nX: ")
    assert [await connection.rest() for connection in silent + slow] == [b""] * 4
    await posts(used)


async def test_the_service_takes_the_descriptors_it_may_have(
    serve: Callable[..., Receiver], clients: AsyncExitStack
) -> None:
    """And when these are few, fewer connections, so that Redis and the spool have theirs."""
    service = serve(descriptors=2 * RESERVE)
    assert resource.prlimit(service.pid, resource.RLIMIT_NOFILE) == (2 * RESERVE, 2 * RESERVE)
    [warning] = [json.loads(line) for line in service.output.splitlines() if "descriptors.limit_low" in line]
    assert (warning["limit"], warning["connections"]) == (2 * RESERVE, RESERVE)
    assert "LimitNOFILE" in warning["advice"]
    await opened(clients, service, 2 * RESERVE)
    for _ in range(20):
        assert (await ask(service.port, CALLBACK)).json == OK
    eventually(lambda: "connections.full" in service.output, "it is logged")
    assert service.figure("receiver_open_connections") <= RESERVE + 11
    assert "Too many open files" not in service.output


async def test_running_out_of_descriptors_is_one_line(serve: Callable[..., Receiver]) -> None:
    """The spool, its drain and the listening socket each log it once while it lasts. Then the service goes on."""
    service = serve()
    limits = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (5, limits[1]))
    for event in ("descriptors.exhausted", "spool.recovery_delayed"):
        eventually(lambda event=event: event in service.output, f"{event} is logged")
    await asyncio.sleep(1.5)  # one more look of each, once a second
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, limits)
    eventually(lambda: service.post(body([report()]))[0] == 200, "it serves again")
    assert service.output.count("descriptors.exhausted") == 1
    assert service.output.count("spool.recovery_delayed") == 1
    assert service.output.count("spool.drain_failed") <= 1
    assert "Traceback" not in service.output
