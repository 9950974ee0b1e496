"""What is counted of callbacks: reports by project and code, delays, and what has no event."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from receiver.callback_counters import ReportSeries
from receiver.events import seconds_of_utc, utc
from receiver.providers import PROVIDERS

if TYPE_CHECKING:
    from conftest import Client, Service

TWO_PROJECTS = """
[projects.counted]
default = true
[projects.beside]
"""
HOUR = 3600


def report(code: str, seconds_ago: float = 5, status: str = "SUCCESS", **more: Any) -> dict[str, Any]:
    """Return a report of Tencent's, whose times are at UTC+8, in whole seconds."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - seconds_ago + 8 * HOUR))
    number = time.monotonic_ns()
    same = {"nationcode": "86", "mobile": "13800138000", "description": "", "sid": f"5000:{number}"}
    return {**same, "user_receive_time": at, "report_status": status, "errmsg": code, **more}


async def post(client: Client, *reports: dict[str, Any], project: str = "counted") -> None:
    """Post reports, and expect their ack."""
    async with client.post(f"/sms/callback/{project}", data=json.dumps(reports)) as answer:
        assert answer.status == 200, await answer.text()


async def figures(client: Client, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a name that have these labels, by the values of the others."""
    async with client.get("/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        return {
            tuple(value for label, value in sorted(one.labels.items()) if label not in labels): one.value
            for family in families
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        }


async def test_reports_are_counted_by_project_status_and_known_code(service: Service) -> None:
    """A code that the provider's table does not have is no label: anybody who may post could invent some."""
    client = await service(TWO_PROJECTS)
    await post(client, report("DELIVRD"), report("DELIVRD"), report("MK:0001", status="FAIL"))
    await post(client, report("13800138000", status="FAIL"), report("", status="FAIL"), report("DELIVRD"))
    await post(client, report("DELIVRD"), project="beside")
    counted = await figures(client, "receiver_reports_total", project="counted", provider="tencent")
    assert counted == {
        ("DELIVRD", "delivered"): 3,
        ("MK:0001", "failed"): 1,
        ("other", "failed"): 2,
        ("other", "delivered"): 0,  # both are there before anything happens
    }
    assert (await figures(client, "receiver_reports_total", project="beside"))["DELIVRD", "tencent", "delivered"] == 1


async def test_the_delay_from_the_handset_is_a_histogram_by_provider(service: Service) -> None:
    client = await service(TWO_PROJECTS)
    before = await figures(client, "receiver_delay_seconds_bucket", provider="tencent")
    await post(
        client, report("DELIVRD", 12), report("DELIVRD", 100), report("DELIVRD", 100), report("DELIVRD", 400 * HOUR)
    )
    after = await figures(client, "receiver_delay_seconds_bucket", provider="tencent")
    grown = {bound: after[bound,] - before[bound,] for bound in ("10.0", "30.0", "60.0", "300.0", "259200.0", "+Inf")}
    assert grown == {"10.0": 0, "30.0": 1, "60.0": 1, "300.0": 3, "259200.0": 3, "+Inf": 4}


async def test_a_time_ahead_of_our_clock_is_no_delay_and_counted(service: Service) -> None:
    client = await service(TWO_PROJECTS)

    async def now() -> tuple[float, float, float]:
        names = ("clock_ahead_items_total", "delay_seconds_count", "delay_seconds_sum")
        ahead, count, total = [(await figures(client, f"receiver_{name}"))["tencent",] for name in names]
        return ahead, count, total

    before = await now()
    await post(client, report("DELIVRD", -HOUR), report("DELIVRD", -8 * HOUR))
    after = await now()
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 2, 0]


async def test_callbacks_are_counted_by_the_place_of_their_key(service: Service) -> None:
    """An old key whose count stands still can go. What was not acknowledged is not counted."""
    client = await service('[projects.rotated]\ncallback_keys = ["the-new-key", "the-old-key"]\n')

    async def counted() -> tuple[float, float]:
        found = await figures(client, "receiver_callback_keys_total", project="rotated", provider="tencent")
        assert set(found) == {("1",), ("2",)}
        return found["1",], found["2",]

    assert await counted() == (0, 0)
    for _ in range(3):  # through the router first, then past it
        assert (await client.post("/sms/callback?key=the-new-key", data=b"[]")).status == 200
    headers = {"X-Callback-Key": "the-old-key"}
    assert (await client.post("/sms/callback", data=b"[]", headers=headers)).status == 200
    assert (await client.post("/sms/callback?key=the-old-key", data=b"no JSON")).status == 400
    assert (await client.post("/sms/callback?key=another-key", data=b"[]")).status == 401
    assert await counted() == (3, 1)


def test_past_the_limit_a_code_has_no_series_of_its_own() -> None:
    series = ReportSeries(limit=2)
    first, second = ("p", "tencent", "failed", "MK:0001"), ("p", "tencent", "failed", "MK:0002")
    assert [series.find(first), series.find(second)] == [first, second]
    assert series.find(("p", "tencent", "failed", "MK:0003")) == ("p", "tencent", "failed", "other")
    assert series.find(first) == first


def test_the_codes_of_a_provider_are_few_enough_for_labels() -> None:
    """They are labels as they are: none is empty, or long."""
    for provider in PROVIDERS.values():
        assert 0 < len(provider.codes) <= 80
        assert all(0 < len(code) <= 40 for code in provider.codes)


def test_seconds_are_read_back_from_the_text_of_an_event() -> None:
    assert [seconds_of_utc(utc(seconds)) for seconds in (0, 1445040184, 253402300799)] == [0, 1445040184, 253402300799]
