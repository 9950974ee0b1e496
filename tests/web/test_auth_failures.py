"""Wrong credentials: counted by client, answered 429 after too many, logged; right ones are always taken."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from http_wire import ask, request, wire
from messages import body, report
from servers import eventually
from signers import plain, stamp
from smn import PROJECT, SMS, TOML
from structlog.testing import capture_logs

from receiver.web.auth_failures import BURST, INTERVAL, MAX_CLIENTS, AuthFailures
from receiver.web.client_address import client_name
from receiver.web.rejected_items import MAX_SENDERS, RejectedItems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Service
    from servers import Receiver

ROUTES = f"{SMS}/callback"
LIMITED = "127.0.0.0/8"


@pytest.fixture(scope="module")
def limited(serve_all, tmp_path_factory) -> Receiver:
    """Start a receiver with two projects behind a trusted proxy."""
    config = tmp_path_factory.mktemp("limited") / "receiver.toml"
    config.write_text(TOML, encoding="utf-8")
    return serve_all(RECEIVER_CONFIG=str(config), RECEIVER_TRUSTED_PROXIES=LIMITED)


def callback(address: str, key: str = "wrong") -> bytes:
    """Return a callback from an address."""
    return request(body([report()]), f"/sms/callback?key={key}", X_Forwarded_For=address)


def lookup(address: str, **headers: str) -> bytes:
    """Return a look-up from an address."""
    return request(b"", ROUTES, "GET", X_Forwarded_For=address, **headers)


def token_request(address: str, password: str) -> bytes:
    """Return a request for a token from an address."""
    user = {"name": "lookup", "password": password}
    scope = {"project": {"id": PROJECT}}
    asked = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    return request(json.dumps(asked).encode(), "/v3/auth/tokens", X_Forwarded_For=address)


def signed(address: str, secret: str) -> bytes:
    """Return a signed look-up from an address."""
    headers = plain("GET", ROUTES, [], {"X-Sdk-Date": stamp()}, keys=("AKEXAMPLE", secret))
    return lookup(address, **{name.replace("-", "_"): value for name, value in headers.items()})


async def statuses(port: int, *requests: bytes) -> list[int]:
    """Return what requests are answered, all on one connection."""
    found = []
    async with wire(port) as connection:
        for one in requests:
            await connection.send(one)
            found.append((await connection.answer()).status)
    return found


@pytest.mark.parametrize(
    ("address", "wrong", "right", "good"),
    [
        ("203.0.113.1", callback("203.0.113.1"), callback("203.0.113.1", "callback-key"), 200),
        ("203.0.113.2", lookup("203.0.113.2", X_Auth_Token="wrong"),
         lookup("203.0.113.2", X_Auth_Token="static-token"), 200),
        ("203.0.113.3", signed("203.0.113.3", "wrong"), signed("203.0.113.3", "the-secret-of-AKEXAMPLE"), 200),
        ("203.0.113.4", token_request("203.0.113.4", "wrong"), token_request("203.0.113.4", "pass-of-lookup"), 201),
    ],
    ids=["callback key", "token", "signature", "password"],
)  # fmt: skip
async def test_after_too_many_wrong_ones_the_answer_is_429_and_right_ones_are_taken(
    limited: Receiver, address: str, wrong: bytes, right: bytes, good: int
) -> None:
    """In the words of the API; the right one from the same address, and the wrong one from another, are as before."""
    assert await statuses(limited.port, *[wrong] * BURST) == [401] * BURST
    answer = await ask(limited.port, wrong)
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= INTERVAL
    if b"/sms/callback?" in wrong:
        assert answer.json["result"] == 429
    else:
        assert answer.json["error_code"] == "APIG.0308"
        assert len(answer.json["request_id"]) == 32
    assert await statuses(limited.port, *[right, wrong] * 3) == [good, 429] * 3
    assert (await ask(limited.port, wrong.replace(address.encode(), b"198.51.100.1"))).status == 401


async def test_guessing_is_logged_with_the_address_and_counted(limited: Receiver) -> None:
    """Once a minute; never the key."""
    figure = 'receiver_auth_failures_total{answer="rate_limited",credential="callback_key"}'
    before = limited.figure(figure)
    await statuses(limited.port, *[callback("203.0.113.9", "guess")] * (BURST + 30))
    assert limited.figure(figure) == before + 30
    eventually(lambda: "auth.rate_limited" in limited.output, "it is logged")
    lines = [json.loads(line) for line in limited.output.splitlines() if "auth.rate_limited" in line]
    assert {line["level"] for line in lines} == {"warning"}
    assert all(line["address"].startswith("203.0.113.") for line in lines)
    assert "guess" not in limited.output


async def test_a_wrong_signature_counts_as_one_however_it_is_answered(service: Service) -> None:
    """Otherwise the secret that was changed at a busy provider would look like a stranger's wrong keys."""
    client = await service('[projects.signed.providers.infobip]\ncredentials = ["user:password"]\n')
    answers = [await client.post("/callbacks/infobip/signed", data=b'{"results":[]}') for _ in range(BURST + 3)]
    assert [answer.status for answer in answers] == [401] * BURST + [429] * 3
    text = await (await client.get("/metrics")).text()
    assert f'receiver_callbacks_total{{outcome="bad_signature",provider="infobip"}} {BURST + 3}.0' in text
    assert 'receiver_callbacks_total{outcome="rate_limited",provider="infobip"} 0.0' in text


async def test_requests_without_credentials_are_no_guesses(limited: Receiver) -> None:
    """A look-up that has none is told so as often as it comes."""
    assert await statuses(limited.port, *[lookup("203.0.113.20")] * (BURST + 5)) == [401] * (BURST + 5)


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """Return what is logged."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def failures(clock: Clock, log: list[Any]) -> AuthFailures:
    """Return a counter with a clock of its own."""
    return AuthFailures(structlog.get_logger(), clock)


def test_the_bucket_fills_up_again(failures: AuthFailures, clock: Clock) -> None:
    """One more failure every 3 s; those answered 429 take nothing from it."""
    assert [failures.count("203.0.113.1", "token") for _ in range(BURST)] == [None] * BURST
    assert [failures.count("203.0.113.1", "token") for _ in range(50)] == [INTERVAL] * 50
    clock.now += INTERVAL
    assert failures.count("203.0.113.1", "token") is None
    assert failures.count("203.0.113.1", "token") == INTERVAL
    clock.now += BURST * INTERVAL + 3600
    assert [failures.count("203.0.113.1", "token") for _ in range(BURST + 1)].count(None) == BURST


def test_memory_is_bounded(failures: AuthFailures) -> None:
    """However many addresses guess: those that failed last are remembered."""
    for _ in range(BURST):
        failures.count("203.0.113.1", "token")
    for number in range(MAX_CLIENTS - 1):
        failures.count(f"10.0.{number >> 8}.{number & 255}", "token")
    assert failures.count("203.0.113.1", "token") is not None
    for number in range(2 * MAX_CLIENTS):
        failures.count(f"10.1.{number >> 8}.{number & 255}", "token")
    assert failures.count("203.0.113.1", "token") is None


def test_the_log_has_a_line_a_minute_for_each_of_the_worst(failures: AuthFailures, clock: Clock, log: Any) -> None:
    """And one for the others, with their number."""
    for number in range(13):
        for _ in range(BURST + 1 + number):
            failures.count(f"203.0.113.{number}", "token")
    failures.report()
    assert [line.get("count") for line in log] == [*range(13, 3, -1), None]
    assert log[0]["address"] == "203.0.113.12"
    assert log[-1]["addresses_count"] == 3
    failures.count("203.0.113.1", "token")
    for _ in range(59):
        clock.now += 1
        failures.report()
    assert len(log) == 11
    clock.now += 1
    failures.report()
    assert (log[11]["address"], log[11]["count"], len(log)) == ("203.0.113.1", 1, 12)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_network_of_ipv6(address: str, client: str) -> None:
    """A customer with one IPv6 address has 2 to the power of 64 of them."""
    assert client_name(ip_address(address)) == client


def test_an_unreadable_address_is_not_logged() -> None:
    """A client may have written it."""
    assert client_name(None) == "unknown"


async def test_who_sends_invalid_items_is_logged(limited: Receiver) -> None:
    """Once a minute, by its address as for wrong keys. The quarantine has the items, and no address."""
    path = "/sms/callback?key=callback-key"
    answer = await ask(limited.port, request(b"[{},1]", path, X_Forwarded_For="2001:db8:1:2:3::4"))
    assert answer.status == 400
    eventually(lambda: "callback.rejected_items" in limited.output, "it is logged")
    (line,) = [json.loads(line) for line in limited.output.splitlines() if "callback.rejected_items" in line]
    assert (line["address"], line["items_count"]) == ("2001:db8:1:2::/64", 2)
    assert (line["project"], line["provider"], line["level"]) == (PROJECT, "tencent", "warning")


def test_the_senders_of_invalid_items_are_bounded() -> None:
    """Those with the most are logged, and of the others the number of items; from then on they count anew."""
    now = [0.0]
    rejected = RejectedItems(structlog.stdlib.get_logger(), lambda: now[0])
    for client in range(MAX_SENDERS + 5):
        rejected.count(f"client-{client}", "shop", "twilio", 3 if client == 7 else 1)
    with capture_logs() as logs:
        rejected.report()
        rejected.count("late", "shop", "twilio", 1)
        rejected.report()
        assert [(log["event"], log["items_count"]) for log in logs] == [
            ("callback.rejected_items", 3),
            *[("callback.rejected_items", 1)] * 9,
            ("callback.more_rejected_items", MAX_SENDERS + 5 - 10),
        ]
        assert logs[0]["address"] == "client-7"
        now[0] += 60
        rejected.report()
        rejected.report()
    assert (logs[-1]["address"], len(logs)) == ("late", 12)
