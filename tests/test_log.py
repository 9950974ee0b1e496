"""No secret, phone number or text of a person in logs: the processor, and the service at its most talkative."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import socket

import pytest
import structlog
from http_wire import request, wire
from messages import OK, body, reply, report

from receiver.log import configure, redact

PRIVATE = {"phone": "13812345678", "text": "please-unsubscribe-me", "key": "callback-key-7", "password": "redis-pw-9"}


def redacted(**fields):
    """Return log fields as they are written."""
    return redact(None, "info", fields)


@pytest.mark.parametrize(
    "name",
    [
        "key", "callback_keys", "token", "X-Auth-Token", "secret", "secret_key", "password", "Authorization",
        "signature", "mobile", "phone_number", "PhoneNumber", "SubscriberNumber", "text", "reply", "ReplyContent",
        "body", "item", "ext", "session_context", "data", "query_string", "Cookie", "message",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["anything", 5, ["anything"], {"a": "anything"}, b"anything", None])
def test_fields_that_may_carry_something_private_are_masked_by_name(name, value):
    """In any spelling of the providers, whatever the value."""
    assert redacted(**{name: value}) == {name: "[redacted]"}


@pytest.mark.parametrize(
    "value",
    [
        "13812345678", "+8613812345678", "to 13812345678, sent", 13812345678, "mobile=13812345678&x=1",
        "[1].mobile: '13812345678'", b"13812345678", "urn/13812345678/x", "(138)13812345678", "电话13812345678",
        "86-13812345678", "No.13812345678", "tel_13812345678",
    ],
)  # fmt: skip
def test_phone_numbers_are_masked_wherever_they_stand(value):
    """Also in fields of harmless names, and nested."""
    for found in (redacted(event=value), redacted(a={"b": [value, (value,)]})):
        assert "13812345678" not in str(found)
        assert "[redacted]" in str(found)


@pytest.mark.parametrize(
    "value",
    [
        "POST /sms/callback?key=callback-key-7",
        "/sms/callback/p1?x=1&key=callback-key-7&y=2",
        "/?token=callback-key-7", "/?KEY=callback-key-7", "/?password=callback-key-7'",
        "redis://:callback-key-7@host:6379/0", "redis://user:callback-key-7@host", "rediss://u:callback-key-7@h:1",
        "redis+sentinel://one,two/mymaster?sentinel_username=me&sentinel_password=callback-key-7",
        "https://user:callback-key-7@host/path", "redis://us@er:callback-key-7@host", "'redis://:callback-key-7@host'",
    ],
)  # fmt: skip
def test_keys_and_passwords_in_urls_are_masked(value):
    """The rest of the URL stays, to be found by."""
    found = redacted(event=value)["event"]
    assert "callback-key-7" not in found
    assert found.replace("[redacted]", "callback-key-7") == value


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:p@ss@127.0.0.1:6399/0", "redis://:[redacted]@127.0.0.1:6399/0"),
        ("redis://u:p@ss@w0rd@host, a@b", "redis://u:[redacted]@host, a@b"),
        ("redis://:p:@ss@host/a@b", "redis://:[redacted]@host/a@b"),
        ("redis://:@@host", "redis://:[redacted]@host"),
        ("at http://host:8080/a@b", "at http://host:8080/a@b"),
    ],
)
def test_a_password_ends_at_the_last_at_sign(text, masked):
    """Nobody who chose it had URLs in mind."""
    assert redacted(event=text) == {"event": masked}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event", "spool.drained"), ("events", 12345678), ("seconds", 0.5), ("spool_bytes", 10**10), ("port", 8080),
        ("topic", "urn:smn:local:default:sms_success"), ("ok", True), ("nothing", None), ("group", "billing"),
        ("pid", 4194303), ("timestamp", "2026-11-21T08:00:00.123456Z"), ("version", "7.0.15"),
        ("entry_ids", ["1795275873210-0"]),
        ("url", "redis://127.0.0.1:6399/0"), ("seconds_each", "0.12345678"), ("id", "f96188c7ccaf4ffba0c9aa149ab2bd57"),
    ],
)  # fmt: skip
def test_what_an_operator_needs_is_left(name, value):
    """Counts, measures and names are not numbers of people."""
    assert redacted(**{name: value}) == {name: value}


@pytest.fixture
def lines():
    """Configure logging as the service does and return what is written, decoded."""
    root = logging.getLogger()
    level = root.level
    configure("debug")
    [handler] = root.handlers
    written = io.StringIO()
    handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


def test_exceptions_are_written_with_their_traceback_and_without_the_private(lines):
    """Both of our own logger and of a library's."""
    try:
        int("no such number 13812345678 at redis://:redis-pw-9@host")
    except ValueError as error:
        structlog.stdlib.get_logger("receiver").exception("request.failed", error=error)
        logging.getLogger("aiohttp.server").exception("Unhandled exception for %s", "13812345678")
    written = lines()
    for line in written:
        assert "Traceback" in line["exception"]
        assert not any(private in str(line) for private in PRIVATE.values())
    assert written[0]["error"].startswith("ValueError: ")
    assert written[0]["error"].endswith("'no such number [redacted] at redis://:[redacted]@host'")


def test_lines_of_libraries_go_the_same_way(lines):
    """As JSON, with level and time, masked."""
    logging.getLogger("some.library").warning("connecting to %s", "redis://:redis-pw-9@host")
    [line] = lines()
    assert (line["event"], line["level"]) == ("connecting to redis://:[redacted]@host", "warning")
    assert line["timestamp"]


async def test_a_lookup_that_fails_after_its_connection_was_given_up_is_no_error(lines):
    """Its future is left behind. Other errors that nobody took are told as they are."""
    loop = asyncio.get_running_loop()
    for error in (socket.gaierror(-3, "Temporary failure in name resolution"), OSError("disk")):
        loop.create_future().set_exception(error)
        gc.collect()
    late, other = lines()
    assert (late["event"], late["level"], "exception" in late) == ("dns.late_failure", "debug", False)
    assert "name resolution" in late["reason"]
    assert (other["level"], "disk" in other["event"]) == ("error", True)


async def test_the_service_tells_nothing_private_even_when_debugging(serve, tmp_path):
    """Good callbacks and bad ones, wrong keys, bodies that are longer than announced, a Redis with a password."""
    config = tmp_path / "receiver.toml"
    config.write_text('[projects.p]\ncallback_keys = ["callback-key-7"]', encoding="utf-8")
    process = serve(
        RECEIVER_LOG_LEVEL="debug", RECEIVER_CONFIG=str(config), REDIS_URL="redis://:redis-pw-9@127.0.0.1:1/0"
    )
    path = "/sms/callback?key=callback-key-7"
    person = {"mobile": PRIVATE["phone"], "text": PRIVATE["text"]}
    assert process.post(body(reply(**person)), path) == (200, OK)
    assert process.post(body([report(mobile=PRIVATE["phone"], ext=PRIVATE["text"])]), path) == (200, OK)
    assert process.post(body([{**person, "time": "no"}]), path)[0] == 400
    assert process.post(body(reply(**person)), path + "8")[0] == 401
    assert process.post(body(reply(**person)), "/sms/callback/" + PRIVATE["phone"])[0] == 404
    for length in ("3", "3000"):
        async with wire(process.port) as connection:
            await connection.send(request(body(reply(**person)), path, Content_Length=length))
            connection.finish_sending()
            await connection.rest()
    async with wire(process.port) as connection:
        good = request(b"[]", path)
        await connection.send(good + body(reply(**person)) + b"\r\n\r\n")
        await connection.rest()
    process.stop()
    assert "redis.away" in process.output
    assert "Traceback" not in process.output
    for name, private in PRIVATE.items():
        assert private not in process.output, name
