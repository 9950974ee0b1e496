"""The receiver's clock is days off. Redis' own clock decides what becomes of Redis' data."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from messages import body, report
from redis import Redis
from servers import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from servers import Receiver, RedisServer

TOPIC = "urn:smn:local:default:sms_success"
FAILED = "urn:smn:local:default:sms_fail"
LEASE = f"{{{TOPIC}}}:trimmer"
DAY = 86400
#: Trimming goes by whole nodes of a stream, of 100 entries.
REPORTS = 500


def clock(days: str) -> Mapping[str, str]:
    """Return the environment of a process whose clock is so many days off."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("faketime is not installed (Debian's package faketime): no process has a wrong clock")
    printed = subprocess.run([faketime, "-f", days, "/usr/bin/env", "-0"], capture_output=True, text=True, check=True)
    environ = dict(pair.split("=", 1) for pair in printed.stdout.split("\0") if pair)
    # Sleeps and time-outs go by the monotonic clock, which nobody can set.
    return {"LD_PRELOAD": environ["LD_PRELOAD"], "FAKETIME": days, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture(scope="module", params=["+4d", "-4d"])
def astray(
    request: pytest.FixtureRequest, valkey: RedisServer, serve_all: Callable[..., Receiver]
) -> Iterator[Receiver]:
    """Start a service, with its index, whose clock is four days off, on an empty Redis."""
    with Redis.from_url(valkey.url) as client:
        client.flushall()
    service = serve_all(RECEIVER_INDEX="1", RECEIVER_RETENTION="72h", **clock(request.param))
    yield service
    service.stop()


@pytest.fixture
def server(valkey: RedisServer) -> Redis:
    """Return a client of the Redis that the service writes to."""
    return Redis.from_url(valkey.url)


def post(receiver: Receiver, times: list[str]) -> None:
    """Deliver a report for each time at the handset, in the provider's zone."""
    reports = [report(f"m{number}", user_receive_time=when) for number, when in enumerate(times)]
    assert receiver.post(body(reports))[0] == 200


def beijing(seconds: float) -> str:
    """Return a moment as the provider writes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds + 8 * 3600))


def found(receiver: Receiver) -> list[dict[str, Any]]:
    """Return the newest reports of the last two days."""
    now = time.time()
    window = f"start_time={int((now - 2 * DAY) * 1000)}&end_time={int((now + 2 * DAY) * 1000)}"
    status, answer = receiver.get(f"/v2/default/notifications/sms/report?sign_id=default&limit=100&{window}")
    assert status == 200, answer
    data: list[dict[str, Any]] = json.loads(answer)["data"]
    return data


def test_reports_are_found_and_have_their_own_time(astray: Receiver, server: Redis) -> None:
    """Four days behind, each status came from the future and was given the wrong time of receipt."""
    when = int(time.time()) - 60
    post(astray, [beijing(when)])
    (one,) = eventually(lambda: found(astray), "the report is found", 20)
    assert one["deliver_time"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def test_a_text_is_kept_for_a_day(astray: Receiver, server: Redis) -> None:
    """Four days ahead, it would be kept for five; four days behind, not at all."""
    path = "/v2/default/notifications/sms/message"
    message = json.dumps({"message": "text", "mobile": "13800138000"}).encode()
    assert astray.put(f"{path}/m1", message) == 200
    assert json.loads(astray.get(f"{path}/m1")[1])["message"] == "text"
    assert server.pttl("{lookups:default}:t:m1") == pytest.approx(DAY * 1000, abs=60_000)


def test_how_far_a_group_is_behind_is_told_by_redis_clock(astray: Receiver, server: Redis) -> None:
    """Four days ahead, an entry of just now was reported to be four days old; four days behind, an old one as new."""
    server.xgroup_create(FAILED, "billing", id="0", mkstream=True)
    old = int((time.time() - DAY) * 1000)
    server.xadd(FAILED, {"data": "{}"}, id=f"{old}-0")
    name = f'receiver_group_oldest_unacknowledged_seconds{{group="billing",topic="{FAILED}"}}'
    assert eventually(lambda: astray.figure(name), "the age is reported") == pytest.approx(DAY, abs=60)


def test_nothing_is_trimmed_before_its_time(astray: Receiver, server: Redis) -> None:
    """Four days ahead, every entry looked older than the retention of three."""
    before = server.xlen(TOPIC)
    post(astray, [beijing(time.time())] * REPORTS)
    server.delete(LEASE)
    eventually(lambda: server.exists(LEASE), "the topic has been trimmed since")
    assert server.xlen(TOPIC) == before + REPORTS
