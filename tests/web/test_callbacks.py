"""The path of a callback over real sockets: every row of the table of answers, and what is in the streams after it."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from pathlib import Path

import pytest
from faststream.redis import RedisBroker, StreamSub
from http_wire import ask, request, wire
from messages import FAIL, OK, QUARANTINE, REPLY, SUCCESS, body, events, reply, report

PAYLOADS = Path(__file__).parents[1] / "payloads" / "tencent"
CASES = [path for path in sorted(PAYLOADS.iterdir()) if not path.name.endswith(".expected.json")]


@pytest.fixture(autouse=True)
def no_traceback(receiver):
    """Nothing that a client sends prints a traceback."""
    before = len(receiver.output)
    yield
    assert "Traceback" not in receiver.output[before:]


async def eventually(condition):
    """Await a condition that another process brings about."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
async def test_every_payload_is_answered_and_its_events_are_in_the_streams(receiver, redis, path):
    """200 when at least one item was good or there was none, else 400; rejected items are in the quarantine."""
    expected = json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))
    answer = await ask(receiver.port, request(path.read_bytes()))
    good, bad = expected["events"], expected["rejections"]
    if good or not bad:
        assert (answer.status, answer.json) == (200, OK)
    else:
        assert (answer.status, answer.json["result"]) == (400, 400)
        assert bad[0]["problems"][0] in answer.json["errmsg"]
    stored = [event for topic in (SUCCESS, FAIL, REPLY) for event in await events(redis, topic)]
    for event in stored:
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("receivedtime"))
    unique = {event["id"]: event for event in good}
    if "sign_id" in expected:  # of a project that has one; here the project has none
        for event in unique.values():
            del event["data"]["sign_id"], event["id"]
        stored = [{**event, "id": None} for event in stored]
        unique = {key: {**event, "id": None} for key, event in unique.items()}
    assert sorted(stored, key=repr) == sorted(unique.values(), key=repr)
    kept = [event["data"] for event in await events(redis, QUARANTINE)]
    assert sorted(kept, key=repr) == sorted((one["data"] for one in bad), key=repr)


@pytest.mark.parametrize("path", ["/sms/callback", "/sms/callback/default", "/callbacks/tencent/default"])
async def test_the_three_forms_of_the_url_lead_to_the_same_topic(receiver, redis, path):
    """With whatever query Tencent or a person adds; the second time takes the short way."""
    for number in range(3):
        answer = await ask(receiver.port, request(body([report(f"5000:{number}")]), path + "?x=1"))
        assert (answer.status, answer.json) == (200, OK)
        assert answer.headers["content-type"].startswith("application/json")
    assert [event["data"]["message_id"] for event in await events(redis, SUCCESS)] == ["5000:0", "5000:1", "5000:2"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"])
async def test_the_content_type_does_not_matter(receiver, redis, kind):
    """Tencent documents none."""
    assert (await ask(receiver.port, request(body([report()]), Content_Type=kind))).json == OK
    assert len(await events(redis, SUCCESS)) == 1


async def test_each_event_type_goes_to_its_topic_and_the_bad_item_to_the_quarantine(receiver, redis):
    """A half-good batch is acknowledged: all of it is safe."""
    batch = [report("1"), report("2", report_status="FAIL"), reply("TD"), report("3", mobile=None)]
    assert (await ask(receiver.port, request(body(batch)))).json == OK
    assert [len(await events(redis, topic)) for topic in (SUCCESS, FAIL, REPLY, QUARANTINE)] == [1, 1, 1, 1]
    [kept] = await events(redis, QUARANTINE)
    assert kept["data"]["reasons"] == ["mobile: Missing data for required field."]
    assert json.loads(kept["data"]["item"]) == report("3", mobile=None)


async def test_errors_name_the_place_and_not_more_than_ten_of_them(receiver, redis):
    """A provider's log shall not be flooded; the quarantine has every one."""
    answer = await ask(receiver.port, request(body([report(str(number), mobile=None) for number in range(25)])))
    assert answer.json["errmsg"].startswith("[0].mobile: Missing data for required field.; [1].mobile: ")
    assert answer.json["errmsg"].endswith("; and 15 more")
    assert len(await events(redis, QUARANTINE)) == 25


@pytest.mark.parametrize("path", ["/", "/sms", "/sms/callback/", "/sms/callback/default/more", "/callbacks/tencent"])
async def test_a_path_that_is_none_is_404_in_the_shape_of_an_answer(receiver, redis, path):
    """The text says where callbacks go."""
    answer = await ask(receiver.port, request(body([report()]), path))
    assert (answer.status, answer.json["result"]) == (404, 404)
    assert "/sms/callback" in answer.json["errmsg"]
    assert not await redis.keys("urn:*")


@pytest.mark.parametrize("path", ["/sms/callback/nobody", "/callbacks/tencent/nobody", "/callbacks/nobody/default"])
async def test_an_unknown_project_or_provider_is_404(receiver, path):
    """Nothing is stored for it."""
    answer = await ask(receiver.port, request(body([report()]), path))
    assert (answer.status, answer.json["result"]) == (404, 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/sms/callback", "/sms/callback/default", "/callbacks/tencent/default"])
async def test_another_method_is_405_and_told_the_right_one(receiver, method, path):
    """Also on a URL that has taken callbacks before."""
    await ask(receiver.port, request(body([report()]), path))
    answer = await ask(receiver.port, request(method=method, path=path))
    assert (answer.status, answer.json["result"], answer.headers["allow"]) == (405, 405, "POST")


async def test_head_is_405_without_a_body(receiver):
    """So that the connection stays usable."""
    async with wire(receiver.port) as connection:
        await connection.send(request(method="HEAD") + request(b"[]"))
        assert (await connection.answer(to_head=True)).status == 405
        assert (await connection.answer()).json == OK


async def test_the_same_callback_twice_is_acknowledged_twice_and_stored_once(receiver, redis):
    """A provider that sends again must not be told of a failure."""
    for _ in range(2):
        assert (await ask(receiver.port, request(body([report(), report()])))).json == OK
    assert len(await events(redis, SUCCESS)) == 1


async def test_the_same_callback_at_once_on_two_processes_is_stored_once(receiver, serve, redis):
    """Two replicas behind a load balancer, and a provider that is in a hurry."""
    ports = (receiver.port, serve().port)
    posts = [ask(port, request(body([report(f"5000:{number}")]))) for number in range(20) for port in ports * 2]
    assert all(answer.json == OK for answer in await asyncio.gather(*posts))
    stored = [event["data"]["message_id"] for event in await events(redis, SUCCESS)]
    assert sorted(stored) == sorted(f"5000:{number}" for number in range(20))


async def test_five_thousand_items_in_one_callback(receiver, redis):
    """All are stored, in the order of the callback, the bad one aside."""
    batch = [report(f"5000:{number}") for number in range(5000)]
    assert (await ask(receiver.port, request(body([*batch, 5])))).json == OK
    stored = [event["data"]["message_id"] for event in await events(redis, SUCCESS)]
    assert stored == [item["sid"] for item in batch]
    assert len(await events(redis, QUARANTINE)) == 1


async def test_pipelined_requests_are_answered_in_their_order(receiver, redis):
    """Good and bad, long way and short way, all in one packet."""
    mixed = [
        (request(body([report("1")])), 200),
        (request(b"nonsense"), 400),
        (request(body([report("2")])), 200),
        (request(method="GET", path="/livez"), 200),
        (request(path="/sms/callback/nobody"), 404),
        (request(body([report(str(n)) for n in range(3, 900)])), 200),  # beyond what is read in the event loop
        (request(body([report("900")])), 200),
        (request(method="GET"), 405),
        (request(body([report("901")])), 200),
    ]
    async with wire(receiver.port) as connection:
        await connection.send(b"".join(data for data, _ in mixed))
        answers = [await connection.answer() for _ in mixed]
    assert [answer.status for answer in answers] == [status for _, status in mixed]
    assert answers[3].json == {"status": "alive"}
    assert len(await events(redis, SUCCESS)) == 901


async def test_http_1_0_is_answered_and_closed(receiver):
    """Unless it asks to be kept alive."""
    async with wire(receiver.port) as connection:
        await connection.send(request(body([report()])).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await connection.answer()
        assert (answer.status, answer.json) == (200, OK)
        assert await connection.rest() == b""


async def test_connection_close_is_answered_and_closed(receiver):
    """And says so."""
    async with wire(receiver.port) as connection:
        await connection.send(request(body([report()]), Connection="close"))
        answer = await connection.answer()
        assert (answer.json, answer.headers["connection"]) == (OK, "close")
        assert await connection.rest() == b""


async def test_expect_100_continue_is_told_to_go_on(receiver, redis):
    """So curl asks so before bodies of some size."""
    callback = body([report()])
    async with wire(receiver.port) as connection:
        await connection.send(request(path="/sms/callback", Expect="100-continue", Content_Length=str(len(callback))))
        assert (await connection.answer()).status == 100
        await connection.send(callback)
        assert (await connection.answer()).json == OK
    assert len(await events(redis, SUCCESS)) == 1


async def test_a_chunked_body_in_small_pieces_is_read(receiver, redis):
    """Its size is not known beforehand."""
    async with wire(receiver.port) as connection:
        await connection.send(request(Content_Length="", Transfer_Encoding="chunked"))
        for byte in body([report()]):
            await connection.send(b"1\r\n%c\r\n" % byte)
        await connection.send(b"0\r\n\r\n")
        assert (await connection.answer()).json == OK
    assert len(await events(redis, SUCCESS)) == 1


@pytest.mark.parametrize(("coding", "bits"), [("gzip", 31), ("deflate", 15)])
async def test_a_compressed_body_is_read(receiver, redis, coding, bits):
    """In one packet and in two, short way and long way."""
    for number in range(3):
        packer = zlib.compressobj(wbits=bits)
        packed = packer.compress(body([report(str(number))])) + packer.flush()
        data = request(packed, Content_Encoding=coding)
        async with wire(receiver.port) as connection:
            await connection.send(data[: -5 * number or None])
            await connection.send(data[-5 * number :] if number else b"")
            assert (await connection.answer()).json == OK
    assert len(await events(redis, SUCCESS)) == 3


@pytest.mark.parametrize("packed", [b"no gzip at all", zlib.compress(b"[]" * 500, wbits=31)[:-9]])
async def test_a_body_that_cannot_be_unpacked_is_400(receiver, packed):
    """In the shape of an answer."""
    for _ in range(2):
        answer = await ask(receiver.port, request(packed, Content_Encoding="gzip"))
        assert (answer.status, answer.json["result"]) == (400, 400)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"\r\n\r\n\r\n\r\n",
        b"POST\r\n\r\n",
        b"POST /sms/callback HTTP/9.9\r\n\r\n",
        b"POST /sms/callback HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /sms/callback HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /sms/callback HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /sms/callback HTTP/1.1\r\n" + b"X: " + b"a" * 20000 + b"\r\n\r\n",
        b"POST /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 1000,
    ],
)
async def test_garbage_on_the_socket_harms_nobody(receiver, garbage):
    """It is answered with an error or not at all, and the next caller with an ack."""
    async with wire(receiver.port) as connection:
        await connection.send(garbage)
        connection.finish_sending()
        answer = await connection.rest()
        assert answer == b"" or re.match(rb"HTTP/1\.[01] (4\d\d|505) ", answer)
    assert (await ask(receiver.port, request(b"[]"))).json == OK


@pytest.mark.parametrize(
    "path", ["/sms/callback?key=\udcff\udcfe", "/sms/callback/\udcff", "/callbacks/%ff/%00", "/sms/callback?key=%00%zz"]
)
async def test_bytes_in_the_url_that_are_no_text_are_no_failure(receiver, path):
    """Of ours; whose callback it is decides the rest of the URL."""
    data = request(b"[]", "/PATH").replace(b"/PATH", path.encode(errors="surrogateescape"))
    assert (await ask(receiver.port, data)).status in (200, 400, 404)


async def test_a_client_that_goes_away_after_its_request_does_not_undo_it(receiver, redis):
    """Its event is published all the same."""
    async with wire(receiver.port) as connection:
        await connection.send(request(body([report()])))
        connection.abort()
    await eventually(lambda: redis.xlen(SUCCESS))


async def test_a_client_that_goes_away_amid_its_request_leaves_nothing_behind(receiver, redis):
    """Not even in the count of what is in work."""
    for data in (request(body([report()]))[:-5], request(body([report()]))[:40]):
        async with wire(receiver.port) as connection:
            await connection.send(data)
            connection.abort()

    async def nothing_in_work():
        metrics = (await ask(receiver.port, request(method="GET", path="/metrics"))).body
        return b"\nreceiver_in_flight_bytes 0.0\n" in metrics

    await eventually(nothing_in_work)
    assert not await redis.exists(SUCCESS)


async def test_a_consumer_group_of_redis_py_reads_the_stream(receiver, redis):
    """Created before the first event, it misses none; acknowledged, nothing is pending."""
    await redis.xgroup_create(SUCCESS, "billing", "0", mkstream=True)
    await ask(receiver.port, request(body([report("1"), report("2")])))
    [[_, entries]] = await redis.xreadgroup("billing", "one", {SUCCESS: ">"}, count=10)
    assert [json.loads(fields[b"data"])["data"]["message_id"] for _, fields in entries] == ["1", "2"]
    assert await redis.xack(SUCCESS, "billing", *[id_ for id_, _ in entries]) == 2
    assert (await redis.xpending(SUCCESS, "billing"))["pending"] == 0


async def test_a_faststream_consumer_reads_the_stream(receiver, redis, redis_url):
    """Without any glue: the CloudEvent arrives as a dict."""
    broker = RedisBroker(redis_url, logger=None)
    got = asyncio.Queue()

    @broker.subscriber(stream=StreamSub(REPLY, group="crm", consumer="one", polling_interval=10, last_id=">"))
    async def handle(event: dict) -> None:
        await got.put(event)

    await redis.xgroup_create(REPLY, "crm", "0", mkstream=True)
    async with broker:
        await broker.start()
        await ask(receiver.port, request(body(reply("退订"))))
        event = await asyncio.wait_for(got.get(), 10)
    assert (event["type"], event["data"]["reply"]) == ("sms_reply_event", "退订")


async def test_events_go_to_disk_and_are_acknowledged_when_redis_is_away(serve):
    """And say so in the readiness."""
    process = serve(REDIS_URL="redis://127.0.0.1:1/0")
    assert process.post(body([report()])) == (200, OK)
    assert json.loads(process.get("/readyz")[1])["spool"]["events"] == 1


async def test_503_when_neither_redis_nor_the_disk_takes_events(serve):
    """Never a false OK: the provider is told to send again, and later what fits is taken."""
    process = serve(REDIS_URL="redis://127.0.0.1:1/0", RECEIVER_SPOOL_MAX_BYTES="1MiB")
    answer = await ask(process.port, request(body([report(f"5000:{number}") for number in range(5000)])))
    assert (answer.status, answer.json["result"]) == (503, 503)
    assert int(answer.headers["retry-after"]) >= 1

    async def taken():
        return (await ask(process.port, request(body([report()])))).json == OK

    await eventually(taken)
    assert "Traceback" not in process.output
