"""For whoever operates the service: alive, ready, its figures, and how it stops."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
from aiohttp.test_utils import TestServer
from http_wire import ask, request, wire
from messages import OK, SUCCESS, body, events, reply, report
from redis import Redis
from servers import eventually

from receiver.app import create_app
from receiver.peers import Peers, SharedRecords
from receiver.settings import read_settings

#: Topics that a project may have been routed to, in all.
TOPICS = [f"urn:smn:local:default:t{number}" for number in range(1000)]


async def test_livez_says_that_the_event_loop_turns(receiver):
    """And nothing about Redis: a restart would not help."""
    answer = await ask(receiver.port, request(method="GET", path="/livez"))
    assert (answer.status, answer.json) == (200, {"status": "alive"})


@pytest.mark.parametrize(
    "data",
    [
        request(b"[]"),
        request(b"[]", Connection="close"),
        request(b"nonsense"),
        request(b"[]", "/sms/callback/nobody"),
        request(b"", "/nowhere", "GET"),
        request(b"", "/docs", "GET"),
        request(b"", "/livez", "GET"),
        request(b"", "/v2/default/notifications/sms/callback", "GET"),
        request(b"", "/v2/nobody/notifications/sms/callback", "GET"),
        request(b"x", Content_Encoding="br"),
        b"no HTTP\r\n\r\n",
        request(b"[]", Expect="the-unexpected"),
    ],
    ids=["ack", "last ack", "invalid", "no project", "no path", "page", "health", "lookup", "refused", "packed",
         "no http", "expect"],
)  # fmt: skip
async def test_answers_tell_no_version_and_are_what_they_say(receiver, data):
    """An attacker need not know which aiohttp and Python run, and a browser does not guess types."""
    answer = await ask(receiver.port, data)
    assert answer.headers.get("server", "receiver") == "receiver"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_readyz_tells_the_state_of_each_part(receiver, redis_url):
    """Ready as long as an event can be made durable."""
    status, text = receiver.get("/readyz")
    parts = json.loads(text)
    assert (status, parts["ready"], parts["stopping"], parts["route"]) == (200, True, False, "redis")
    assert parts["redis"]["takes_writes"]
    assert parts["spool"]["writable"]


@pytest.mark.parametrize("form", ["redis://{}", "redis+sentinel://{}/mymaster", "redis+cluster://{}"])
def test_without_redis_it_is_ready_by_its_disk(serve, form):
    """A Redis that is away at the start is no reason not to start."""
    process = serve(REDIS_URL=form.format("127.0.0.1:1"))
    parts = json.loads(process.get("/readyz")[1])
    assert (parts["ready"], parts["route"]) == (True, "spool")
    assert "Traceback" not in process.output


def test_metrics_please_prometheus_own_linter(receiver, redis_url):
    """After traffic of every kind, so that every metric has values."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus): the metrics are not linted")
    for data in (body([report(), report("2", report_status="FAIL"), 5]), body(reply()), b"nonsense"):
        receiver.post(data)
    status, text = receiver.get("/metrics")
    assert status == 200
    lint = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")


def test_metrics_count_what_happened(serve):
    """By outcome, event type and way of reading; duplicates apart."""
    names = {
        'receiver_callbacks_total{outcome="ok",provider="tencent"}': 3,
        'receiver_callbacks_total{outcome="invalid",provider="tencent"}': 1,
        'receiver_events_total{event_type="sms_success_event",provider="tencent"}': 3,
        'receiver_events_total{event_type="sms_fail_event",provider="tencent"}': 1,
        'receiver_events_total{event_type="sms_rejected_event",provider="tencent"}': 2,
        'receiver_readings_total{provider="tencent",way="fast"}': 2,
        'receiver_readings_total{provider="tencent",way="slow"}': 2,
        'receiver_ack_seconds_count{provider="tencent"}': 3,
        "receiver_stream_entries_added_total": 5,
        "receiver_duplicate_events_total": 1,
    }
    receiver = serve()  # of its own, and events of its own: others may still drain what tests before have left
    before = {name: receiver.figure(name) for name in names}
    first = body([report("counted 1"), report("counted 2", report_status="FAIL")])
    for data in (first, body([report("counted 1")]), body([report("counted 3"), "counted"]), b"counted"):
        receiver.post(data)
    assert {name: receiver.figure(name) - value for name, value in before.items()} == names


def test_what_callers_send_does_not_become_a_label(receiver, redis_url):
    """Paths, projects and keys of strangers would fill Prometheus."""
    receiver.post(b"[]", "/callbacks/stranger/stranger?key=stranger")
    receiver.post(b"[]", "/sms/callback/stranger")
    receiver.get("/stranger")
    assert b"stranger" not in receiver.get("/metrics")[1]


def test_on_sigterm_it_is_not_ready_yet_still_serves_and_then_ends_well(serve):
    """The load balancer has time to notice, and nobody is refused meanwhile."""
    process = serve(RECEIVER_STOP_DELAY="1s")
    process.signal(signal.SIGTERM)
    eventually(lambda: process.get("/readyz")[0] == 503, "not ready")
    assert process.post(body([report()])) == (200, OK)
    assert process.process.wait(10) == 0


def is_rendered() -> bool:
    """Tell whether the service is making an exposition."""
    return any(task.get_name() == "exposition" for task in asyncio.all_tasks())


async def test_the_event_loop_turns_while_a_scrape_is_rendered(client):
    """With many topics that takes 0.1 s and more, in which callbacks are answered."""
    async with asyncio.timeout(30):
        turns = 0
        while turns < 10:  # on a busy machine, a scrape may be rendered before we have as many
            scrape = asyncio.create_task(client.get("/metrics"))
            turns = 0
            while not scrape.done():
                turns += is_rendered()
                await asyncio.sleep(0)
            assert (await scrape).status == 200


async def test_scrapes_at_the_same_time_share_the_work(client):
    """However many: one is made, and one waits for its turn."""
    scrapes = [asyncio.create_task(client.get("/metrics")) for _ in range(30)]
    most = 0
    while not all(scrape.done() for scrape in scrapes):
        most = max(most, sum(task.get_name() == "exposition" for task in asyncio.all_tasks()))
        await asyncio.sleep(0)
    assert {scrape.result().status for scrape in scrapes} == {200}
    assert most in (1, 2)


async def test_topics_that_are_neither_routed_to_nor_hold_anything_have_no_metrics(service, redis):
    """Whoever has a token makes a thousand of them; they would be thousands of samples in each scrape."""
    await redis.sadd("{lookups:default}:topics", *TOPICS)
    await redis.xadd(TOPICS[7], {"data": "{}"})
    client = await service()

    async def scraped():
        async with client.get("/metrics") as response:
            return await response.text()

    async with asyncio.timeout(10):
        while f'receiver_stream_entries{{topic="{TOPICS[7]}"}} 1.0' not in (text := await scraped()):
            await asyncio.sleep(0.05)
    assert {urn for urn in TOPICS if f'"{urn}"' in text} == {TOPICS[7]}
    assert 'receiver_unread_trimmed_total{topic="urn:smn:local:default:sms_reply"} 0.0' in text
    assert 'receiver_stream_entries{topic="urn:smn:local:default:quarantine"} 0.0' in text


@pytest.fixture
async def workers(aiohttp_client, redis_url, tmp_path):
    """Start two workers of one service, the second without Redis, in this process: as the supervisor shares records."""
    records = SharedRecords()

    async def start(number, url, **environ):
        settings = read_settings({"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_LOG_LEVEL": "error", **environ})
        return await aiohttp_client(TestServer(create_app(settings, url, Peers(records, number))))

    async def start_both(**environ):
        return [await start(1, redis_url, **environ), await start(2, "redis://127.0.0.1:1/0", **environ)]

    return start_both


async def test_whichever_worker_is_asked_the_worst_state_is_told(workers):
    """And which worker has it. The first, which answered before the second was there, included."""
    began = time.time()
    first, second = await workers()
    told = [json.loads(await (await worker.get("/readyz")).text()) for worker in (first, second)]
    assert [one["route"] for one in told] == ["redis", "spool"]
    assert [(one["worst"]["worker"], one["worst"]["route"]) for one in told] == [(2, "spool")] * 2
    assert [one["ready"] for one in told] == [True, True]
    for worker in (first, second):
        text = await (await worker.get("/metrics")).text()
        assert 'receiver_route{route="redis"} 0.0' in text
        assert 'receiver_route{route="spool"} 1.0' in text
        assert 'receiver_worker_route{route="redis",worker="1"} 1.0' in text
        assert 'receiver_worker_route{route="spool",worker="2"} 1.0' in text
        starts = re.findall(r'^receiver_worker_start_time_seconds\{worker="([12])"\} (\S+)$', text, re.MULTILINE)
        times = [float(started) for _, started in sorted(starts)]
        assert len(times) == 2
        assert began <= times[0] < times[1] <= time.time()


async def test_a_service_is_ready_while_one_of_its_workers_takes_events(workers):
    """A load balancer can only take all of them away. The worst state says that one refuses."""
    first, second = await workers(RECEIVER_SPOOL_MAX_BYTES="1MiB")
    number = 0
    for size in (500, 20, 1):  # until its share of the disk is used up, and takes not even one report
        status = 200
        while status == 200:
            number += 1
            items = body([report(f"{number}:{item}") for item in range(size)])
            status = (await second.post("/sms/callback", data=items)).status
        assert status == 503
    async with asyncio.timeout(10):
        while (told := json.loads(await (answer := await second.get("/readyz")).text()))["route"] == "spool":
            await second.post("/sms/callback", data=items)
    assert (answer.status, told["route"], told["worst"]["worker"]) == (200, "refuse", 2)
    assert not told["spool"]["writable"]
    async with asyncio.timeout(10):
        while 'receiver_route{route="refuse"} 1.0' not in (text := await (await first.get("/metrics")).text()):
            await asyncio.sleep(0.05)
    assert 'receiver_spool_writable{worker="1"} 1.0' in text
    assert 'receiver_spool_writable{worker="2"} 0.0' in text


async def test_a_request_in_flight_at_the_stop_is_finished(serve, redis):
    """Its ack is true: what it held is in Redis."""
    process = serve(RECEIVER_STOP_DELAY="300ms")
    async with wire(process.port) as connection:
        data = request(body([report()]))
        await connection.send(data[:-10])
        process.signal(signal.SIGTERM)
        eventually(lambda: process.get("/readyz")[0] == 503, "not ready")
        await connection.send(data[-10:])
        assert (await connection.answer()).json == OK
    assert process.process.wait(10) == 0
    assert len(await events(redis, SUCCESS)) == 1


def test_every_ack_given_while_it_stops_is_true(serve, redis_url):
    """Senders post without a pause until nobody answers; each id that was acknowledged is in the stream."""
    process = serve()
    acknowledged = set()

    def send(sender):
        for number in range(100_000):
            sid = f"{sender}:{number}"
            status, answer = process.post(body([report(sid)]))
            if status == 0:
                return
            if (status, answer) == (200, OK):
                acknowledged.add(sid)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for sender in senders:
        sender.start()
    eventually(lambda: len(acknowledged) > 100, "traffic")
    assert process.stop() == 0
    for sender in senders:
        sender.join()
    with Redis.from_url(redis_url) as client:
        stored = {json.loads(fields[b"data"])["data"]["message_id"] for _, fields in client.xrange(SUCCESS)}
    assert acknowledged <= stored
