"""Bounds: size, time, and what is in work. Past each of them a callback is refused in the shape of an answer."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import AsyncExitStack

import pytest
from bombs import bomb
from http_wire import ask, request, wire
from messages import OK, SUCCESS, body, events, report
from processes import peak_memory, processor_time

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def limited(serve_all):
    """Start a receiver with small bounds."""
    return serve_all(
        RECEIVER_MAX_BODY="1MiB",
        RECEIVER_READ_TIMEOUT="300ms",
        RECEIVER_MAX_INFLIGHT_BYTES="1MiB",
        RECEIVER_MAX_ITEMS="3",
    )


async def test_a_body_over_the_limit_is_refused_while_it_is_still_sent(limited):
    """The sender is told at once, not after having sent a gigabyte."""
    async with wire(limited.port) as connection:
        await connection.send(request(Content_Length=str(1 << 30)) + b" " * (LIMIT + 100_000))
        answer = await connection.answer()
    assert (answer.status, answer.json["result"]) == (413, 413)
    assert "RECEIVER_MAX_BODY" in answer.json["errmsg"]


async def test_a_body_that_announces_too_much_is_refused_before_it_comes(limited):
    """Nobody waits for five gigabytes, nor for the sender to begin."""
    answer = await ask(limited.port, request(Content_Length=str(5 << 30)))
    assert (answer.status, answer.json["result"]) == (413, 413)


@pytest.mark.parametrize(
    "data",
    [
        request(X_Long="x" * 20_000),
        request(path="/sms/callback?" + "x" * 20_000),
        b"POST /sms/callback HTTP/1.1\r\nHost: r\r\nContent-Length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["long header", "long url", "length no number", "tls"],
)
async def test_what_is_no_readable_request_is_answered_in_the_same_shape_and_counted(limited, data):
    """A provider's engineer reads JSON whatever went wrong."""
    before = limited.figure("receiver_unreadable_requests_total")
    answer = await ask(limited.port, data)
    assert (answer.status, answer.json["result"]) == (400, 400)
    assert "\n" not in answer.json["errmsg"]
    assert "install" not in answer.json["errmsg"]
    assert limited.figure("receiver_unreadable_requests_total") == before + 1


@pytest.mark.parametrize("encoding", ["br", "zstd", "BR"])
async def test_an_encoding_that_is_not_known_is_named_as_such(limited, encoding):
    """It says what to send, not what to install."""
    answer = await ask(limited.port, request(b"x", Content_Encoding=encoding))
    assert (answer.status, answer.json) == (
        400,
        {"result": 400, "errmsg": "unsupported Content-Encoding; send gzip, deflate or none"},
    )


async def test_a_damaged_packed_body_is_named_as_such(limited):
    """In one line, and no traceback is logged."""
    packed = zlib.compress(b"[]" * 100, wbits=31)
    answer = await ask(limited.port, request(packed[:15] + b"damaged" + packed[15:], Content_Encoding="gzip"))
    assert (answer.status, answer.json["result"]) == (400, 400)
    assert answer.json["errmsg"].startswith("the body cannot be read: ")
    assert "\n" not in answer.json["errmsg"]
    assert "Traceback" not in limited.output


async def test_a_chunked_body_over_the_limit_is_refused(limited):
    """Although it does not say its size."""
    async with wire(limited.port) as connection:
        await connection.send(request(Content_Length="", Transfer_Encoding="chunked"))
        for _ in range(17):
            await connection.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        assert (await connection.answer()).status == 413


async def test_a_body_of_just_the_limit_is_taken(limited, redis):
    """And of one byte more is not."""
    callback = body([report()])
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        answer = await ask(limited.port, request(callback.ljust(size)))
        assert answer.status == status
    assert len(await events(redis, SUCCESS)) == 1


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_gzip_bomb_is_refused_within_bounded_memory_and_time(limited, chunked):
    """The limit counts bytes after decompression: 4 GiB of zeros in 4 MB. The rest is dropped as it came."""
    packed = bomb(4 << 30)
    assert len(packed) < 5 * LIMIT
    data = request(packed, Content_Encoding="gzip")
    if chunked:
        head = request(Content_Length="", Transfer_Encoding="chunked", Content_Encoding="gzip")
        data = head + b"%x\r\n" % len(packed) + packed + b"\r\n0\r\n\r\n"
    memory, busy = peak_memory(limited.pid), processor_time(limited.pid)
    async with wire(limited.port) as connection:
        sending = asyncio.create_task(connection.send(data))
        assert (await connection.answer()).status == 413
        await sending
    assert (await ask(limited.port, request(b"[]"))).json == OK
    assert peak_memory(limited.pid) - memory < 32 << 20
    assert processor_time(limited.pid) - busy < 0.5


async def test_a_small_bomb_in_one_packet_is_refused(limited):
    """The same when all of it is there before the handler is called."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b" " * (LIMIT + 1)) + packer.flush()
    assert len(packed) < 2000
    for _ in range(2):
        assert (await ask(limited.port, request(packed, Content_Encoding="gzip"))).status == 413
        assert (await ask(limited.port, request(b"[]"))).json == OK


async def test_a_slow_body_is_408(limited):
    """A byte now and then does not hold a place."""
    async with wire(limited.port) as connection:
        await connection.send(request(Content_Length="1000") + b"[")
        answer = await connection.answer()
    assert (answer.status, answer.json["result"]) == (408, 408)
    assert int(answer.headers["retry-after"]) >= 1


async def test_more_items_than_allowed_are_413(limited, redis):
    """Nothing of it is stored."""
    answer = await ask(limited.port, request(body([report(str(number)) for number in range(4)])))
    assert (answer.status, answer.json["result"]) == (413, 413)
    assert "RECEIVER_MAX_ITEMS" in answer.json["errmsg"]
    assert not await redis.exists(SUCCESS)


async def test_past_the_bytes_in_work_callbacks_are_503_at_once(limited):
    """Until there is room again."""
    async with wire(limited.port) as holder:
        await holder.send(request(Content_Length=str(LIMIT)) + b"[" * (LIMIT - 1))

        async def overloaded():
            answer = await ask(limited.port, request(b"[]"))
            assert answer.status in (200, 503)
            return answer if answer.status == 503 else None

        async with asyncio.timeout(10):
            while not (answer := await overloaded()):
                pass
        assert answer.json["result"] == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert (await holder.answer()).status == 408
    assert (await ask(limited.port, request(b"[]"))).json == OK


@pytest.fixture
def few(serve):
    """Start a receiver that has little room for events; what Redis does not take within 1.2 s goes to disk."""
    return serve(RECEIVER_MAX_INFLIGHT_EVENTS="5", RECEIVER_PUBLISH_TIMEOUT="1.2s")


def batch(number):
    """Return the request of a callback of so many reports, unlike any other."""
    return request(body([report(f"{number}:{part}") for part in range(number)]))


async def test_events_that_are_safe_take_no_room(few, redis):
    """Nor do those of a refused callback: many more than the bound go through, one callback after the other."""
    for _ in range(5):
        assert (await ask(few.port, batch(3))).json == OK
        assert (await ask(few.port, request(b"[]"))).json == OK
        assert (await ask(few.port, request(body([{"sid": str(number)} for number in range(3)])))).status == 400
    async with asyncio.timeout(10):
        while few.figure("receiver_in_flight_events") or few.figure("receiver_in_flight_bytes"):
            await asyncio.sleep(0.01)


async def test_past_the_events_in_work_callbacks_are_503_at_once(few, redis):
    """While Redis does not answer there is room for one of two; what was refused is stored when it comes again."""
    await redis.client_pause(10_000, all=False)
    first, second = asyncio.create_task(ask(few.port, batch(4))), asyncio.create_task(ask(few.port, batch(3)))
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    answers = await asyncio.gather(first, second)
    await redis.client_unpause()
    refused = next(iter(done)).result()
    assert sorted(answer.status for answer in answers) == [200, 503]
    assert refused.status == 503
    assert "events are in flight" in refused.json["errmsg"]
    assert int(refused.headers["retry-after"]) >= 1
    for number in (3, 4):
        assert (await ask(few.port, batch(number))).json == OK
    async with asyncio.timeout(10):
        while len(await events(redis, SUCCESS)) != 7:
            await asyncio.sleep(0.01)


async def test_a_callback_of_more_events_than_there_may_be_in_work_is_taken_when_it_is_alone(few, redis):
    """It would never be otherwise, however often its provider sends it."""
    assert (await ask(few.port, batch(9))).json == OK
    assert len(await events(redis, SUCCESS)) == 9


async def test_senders_that_only_announce_take_no_room(limited):
    """Sixteen of them, chunked or with a length, do not keep a complete callback out."""
    async with AsyncExitStack() as stack:
        for number in range(16):
            slow = await stack.enter_async_context(wire(limited.port))
            chunked = {"Content_Length": "", "Transfer_Encoding": "chunked"} if number % 2 else {}
            await slow.send(request(**{"Content_Length": str(LIMIT), **chunked}) + (b"1\r\n[\r\n" if chunked else b"["))
        assert (await ask(limited.port, request(body([report()])))).json == OK


async def test_refused_callbacks_are_counted_by_their_reason(limited):
    """So that an operator sees which bound is too small."""
    name = 'receiver_callbacks_total{outcome="too_large",provider="tencent"}'
    before = limited.figure(name)
    await ask(limited.port, request(b" " * (LIMIT + 1)))
    assert limited.figure(name) == before + 1
    parts = json.loads(limited.get("/readyz")[1])
    assert parts["ready"]
