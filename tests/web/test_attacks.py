"""Attacks from outside: small requests that cost much, twenty at once, while other clients are served.

Costs are measured in processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from bombs import bomb
from http_wire import ask, request, wire
from messages import OK, report
from processes import peak_memory, processor_time
from smn import PROJECT, SMS, TOML

#: Seconds. On a quiet machine none of these attacks makes it 0.05; a busy one may run something else for a while.
RESPONSIVE = 5.0
TOKEN = {"X_Auth_Token": "static-token"}
QUARANTINE = f"urn:smn:cn-north-4:{PROJECT}:quarantine"
TIMES = 20


#: A project whose callbacks need a signature and no key.
SIGNED = """
[projects.signed]
public_url = "https://sms.example.com"
[projects.signed.providers.amazon-sns]
allowed_topics = ["arn:aws:sns:us-east-1:123456789012:sms"]
[projects.signed.providers.sinch]
webhook_secrets = ["secret-of-sinch"]
[projects.signed.providers.telnyx]
public_keys = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
[projects.signed.providers.twilio]
auth_tokens = ["token-of-twilio"]
[projects.signed.providers.vonage]
signature_secrets = ["secret-of-vonage"]
"""
#: Four megabytes of each, a few kilobytes when packed.
LISTS = b'{"sig":[' + b"[]," * 1_390_000 + b"[]]}"
SINCH = {f"x_sinch_webhook_signature{rest}": "1" for rest in ("", "_nonce", "_timestamp")}
ESCAPES = b"sig=" + b"%41" * 1_390_000


@pytest.fixture(scope="module")
def attacked(serve_all, tmp_path_factory):
    """Start a receiver with keys, users, tokens and signatures."""
    config = tmp_path_factory.mktemp("attacked") / "receiver.toml"
    config.write_text(TOML + SIGNED, encoding="utf-8")
    return serve_all(RECEIVER_CONFIG=str(config))


@asynccontextmanager
async def others_are_served(port):
    """Ask ``/livez`` all the time, and check that no answer has taken long."""
    waited = []
    done = asyncio.Event()

    async def ask_livez():
        async with wire(port) as connection:
            while not done.is_set():
                began = time.perf_counter()
                await connection.send(request(path="/livez", method="GET"))
                assert (await connection.answer()).status == 200
                waited.append(time.perf_counter() - began)
                await asyncio.sleep(0.005)

    asking = asyncio.create_task(ask_livez())
    yield
    done.set()
    await asking
    assert max(waited) < RESPONSIVE


async def at_once(port, data):
    """Send requests on as many connections, and return their answers."""
    return await asyncio.gather(*[ask(port, one) for one in data])


@pytest.mark.parametrize("packed", [True, False])
async def test_a_request_for_a_token_with_32_000_methods_is_refused_at_once(attacked, packed):
    """The answer is short. It was 1.6 MB, after 0.28 s each."""
    methods = b'{"auth":{"identity":{"methods":[' + b",".join([b"1"] * 32_000) + b"]}}}"
    data = gzip.compress(methods) if packed else methods
    busy = processor_time(attacked.pid)
    async with others_are_served(attacked.port):
        sent = request(data, "/v3/auth/tokens", **({"Content_Encoding": "gzip"} if packed else {}))
        answers = await at_once(attacked.port, [sent] * TIMES)
    assert {(answer.status, answer.json["code"]) for answer in answers} == {(413, "SMN.0013")}
    assert max(len(answer.body) for answer in answers) < 1000
    assert processor_time(attacked.pid) - busy < 1


async def test_as_many_methods_as_fit_into_a_request_get_one_short_error(attacked):
    methods = b'{"auth":{"identity":{"methods":[' + b",".join([b"1"] * 2000) + b"]}}}"
    answer = await ask(attacked.port, request(methods, "/v3/auth/tokens"))
    assert (answer.status, answer.json["code"]) == (400, "SMN.0013")
    assert "auth.identity.methods: Longer than maximum length 10." in answer.json["message"]
    assert len(answer.body) < 1000


@pytest.fixture(scope="module")
def bombs():
    """Return a quarter of a GiB of zeros as gzip, and as deflate with a header and without."""
    return {form: bomb(256 << 20, bits) for form, bits in (("gzip", 31), ("deflate", 15), ("raw", -15))}


@pytest.mark.parametrize(
    ("form", "method", "path", "statuses"),
    [
        ("gzip", "POST", "/sms/callback?key=wrong", {401, 429}),  # wrong keys are rate limited
        ("deflate", "POST", "/nowhere", {404}),
        ("raw", "PUT", "/livez", {405}),
        ("gzip", "GET", "/livez", {200}),
        ("deflate", "PUT", f"{SMS}/callback", {401}),
        ("raw", "POST", f"{SMS}/message", {401}),
        ("gzip", "POST", "/v3/auth/tokens", {413}),
        ("gzip", "POST", "/sms/callback?key=callback-key", {413, 503}),  # 4 MiB of each are decompressed
        ("deflate", "POST", "/sms/callback?key=callback-key", {413, 503}),
        ("raw", "POST", "/sms/callback?key=callback-key", {413, 503}),
    ],
)
async def test_the_body_of_a_refused_request_is_not_decompressed(  # noqa: PLR0913, PLR0917 what varies
    attacked, bombs, form, method, path, statuses
):
    """Neither before its answer nor after. It was: 0.2 s each, with nobody served."""
    memory, busy = peak_memory(attacked.pid), processor_time(attacked.pid)
    encoding = "gzip" if form == "gzip" else "deflate"
    async with others_are_served(attacked.port):
        sent = request(bombs[form], path, method, Content_Encoding=encoding)
        answers = await at_once(attacked.port, [sent] * TIMES)
    assert {answer.status for answer in answers} <= statuses
    assert processor_time(attacked.pid) - busy < 1.5
    assert peak_memory(attacked.pid) - memory < 200 << 20


@pytest.mark.parametrize("together", [1, 3])
async def test_a_refused_body_in_chunks_is_not_decompressed(attacked, bombs, together):
    """Nor is the body of the next request on the connection."""
    packed = bombs["gzip"]
    head = request(path="/nowhere", Content_Length="", Transfer_Encoding="chunked", Content_Encoding="gzip")
    sent = (head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)) * together
    busy = processor_time(attacked.pid)

    async def attack():
        async with wire(attacked.port) as connection:
            await connection.send(sent)
            return [(await connection.answer()).status for _ in range(together)]

    async with others_are_served(attacked.port):
        answers = await asyncio.gather(*[attack() for _ in range(TIMES)])
    assert answers == [[404] * together] * TIMES
    assert processor_time(attacked.pid) - busy < 2


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b",".join([b"[]"] * 1_360_000) + b"]",
        b"[" + b",".join([b"1"] * 2_000_000) + b"]",
        b'[{"x":[' + b",".join([b"[]"] * 1_360_000) + b"]}]",
    ],
    ids=["arrays", "numbers", "one message"],
)
async def test_registrations_of_four_megabytes_take_bounded_memory(attacked, content):
    """24 at once took 376 MiB, and 8 s in which nobody was served."""
    async with others_are_served(attacked.port):
        answers = await at_once(attacked.port, [request(content, f"{SMS}/message", **TOKEN)] * 24)
    assert {answer.status for answer in answers} <= {400, 503}
    assert peak_memory(attacked.pid) < 400 << 20


@pytest.mark.parametrize(
    ("provider", "content", "headers"),
    [
        ("vonage", LISTS, {}),
        ("twilio", ESCAPES, {"X_Twilio_Signature": "bm8="}),
        ("amazon-sns", LISTS, {}),
        ("sinch", LISTS, SINCH),
        ("telnyx", LISTS, {"telnyx_signature_ed25519": "bm8=", "telnyx_timestamp": "now"}),
    ],
)
async def test_four_megabytes_without_a_good_signature_cost_no_more_than_unpacking_them(
    attacked, provider, content, headers
):
    """Strangers choose what is verified. Decoding the lists took 0.35 s each, with nobody served."""
    headers = {name: str(int(time.time())) if value == "now" else value for name, value in headers.items()}
    sent = request(gzip.compress(content, 1), f"/callbacks/{provider}/signed", Content_Encoding="gzip", **headers)
    busy = processor_time(attacked.pid)
    async with others_are_served(attacked.port):
        answers = await at_once(attacked.port, [sent] * TIMES)
    assert {answer.status for answer in answers} <= {401, 413, 429, 503}
    assert processor_time(attacked.pid) - busy < 2


async def test_twenty_callbacks_of_garbage_cost_little_more_than_one(attacked, redis):
    """The others are refused as a whole. Each was read to its end, which took 17 s.

    All items of those that were read are in the quarantine.
    """
    items = 8000
    data = [[{"sid": number * items + item} for item in range(items)] for number in range(TIMES + 1)]
    sent = [request(json.dumps(one, separators=(",", ":")).encode(), "/sms/callback?key=callback-key") for one in data]
    began = processor_time(attacked.pid)
    assert (await ask(attacked.port, sent.pop())).status == 400
    alone = processor_time(attacked.pid) - began
    async with others_are_served(attacked.port):
        answers = Counter(answer.status for answer in await at_once(attacked.port, sent))
    assert processor_time(attacked.pid) - began < 10 * alone
    assert set(answers) <= {400, 503}
    assert answers[400] >= 1
    answers[400] += 1
    async with asyncio.timeout(10):
        while await redis.xlen(QUARANTINE) != answers[400] * items:  # on a busy machine some come by way of the disk
            await asyncio.sleep(0.01)


async def test_a_report_with_a_new_field_does_not_wait_for_the_garbage_of_others(attacked):
    garbage = json.dumps([{"sid": item} for item in range(9000)]).encode()
    path = "/sms/callback?key=callback-key"
    async with wire(attacked.port) as connection:
        await connection.send(request(garbage, path))
        answer = await ask(attacked.port, request(json.dumps([report("new", colour="blue")]).encode(), path))
        assert answer.json == OK
        assert (await connection.answer()).status == 400
