"""Requests as providers send them, signatures included: ``payloads/<provider>/samples.json``.

A sample has the request, the project's ``options`` as in the TOML file, the clock (``now``), what fetches would return
(``certificates``), and what is expected.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from multidict import CIMultiDict

from receiver.errors import ReceiverError
from receiver.events import Sealer
from receiver.providers import PROVIDERS
from receiver.providers.base import CallbackRequest
from receiver.providers.base import request_of as parsed_alone
from receiver.providers.options import load_options

PAYLOADS = Path(__file__).parents[1] / "payloads"
SAMPLES = [
    pytest.param(name, sample, id=f"{name}: {sample['name']}")
    for name in PROVIDERS
    if (PAYLOADS / name / "samples.json").exists()
    for sample in json.loads((PAYLOADS / name / "samples.json").read_text(encoding="utf-8"))
]


def request_of(sample):
    """Return the request of a sample."""
    headers = CIMultiDict(sample["headers"])
    return CallbackRequest(sample["method"], sample["path_query"], headers, sample["body"].encode())


def handled(name, sample, request):
    """Do with a request what the web layer does: return the answer, and what was parsed, or None."""
    provider_type = PROVIDERS[name]
    provider = provider_type(load_options(provider_type, sample.get("options", {}), {}))
    now = datetime.fromisoformat(sample["now"]).timestamp() if "now" in sample else 1772330406.0
    try:
        if provider.signed:
            url = provider.certificate_url(request)
            certificate = None if url is None else sample["certificates"][url].encode()
            provider.verify(request, now, certificate)
    except ReceiverError as error:
        return provider.refuse(error.status, str(error)), None
    parsed = provider.parse(request)
    if parsed.rejections and not parsed.events and not provider.drops_on_4xx:
        return provider.refuse(400, parsed.rejections[0].problems[0]), parsed
    return provider.acknowledge(parsed), parsed


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_a_sample_is_answered_and_parsed_as_expected(name, sample):
    answer, parsed = handled(name, sample, request_of(sample))
    expected = sample["expect"]
    assert answer.status == expected["status"]
    if expected.get("ack_body") is not None:
        assert answer.body.decode() == expected["ack_body"]
    if parsed is None:
        assert expected["status"] in (401, 503)
        return
    events = [json.loads(event.data) for event in parsed.events]
    wanted = [{"event_type": event.pop("type"), **event} for event in expected["events"]]
    assert len(events) == len(wanted)
    for event, known in zip(events, wanted, strict=True):
        extra = known.pop("extra", {})
        assert known.items() <= event.items()
        assert extra.items() <= event.get("extra", {}).items()
    assert expected.get("path") in (None, parsed.path)
    assert parsed.pending == expected.get("pending", 0)
    assert parsed.ignored == expected.get("ignored", 0)
    assert parsed.confirmation == expected.get("fetch")
    quarantined = expected.get("quarantined", 1 if expected["status"] == 400 else 0)
    assert len(parsed.rejections) == quarantined


def ids(name, parsed):
    """Return the ids of all events, rejected ones included."""
    sealer = Sealer(name, "default")
    events = [*parsed.events, *(rejection.event for rejection in parsed.rejections)]
    return [sealer.seal(event, "topic", 0).id for event in events]


@pytest.mark.parametrize(("name", "sample"), [case for case in SAMPLES if "same_as" in case.values[1]["expect"]])
def test_a_retry_gives_the_same(name, sample):
    """Another attempt, with another envelope, clock, nonce or signature: neither a new event nor a new rejection."""
    first = next(case.values[1] for case in SAMPLES if case.id == f"{name}: {sample['expect']['same_as']}")
    (_, one), (_, other) = (handled(name, each, request_of(each)) for each in (first, sample))
    assert one.pending == other.pending
    assert ids(name, one) == ids(name, other)


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_a_quarantined_item_can_be_parsed_alone(name, sample):
    """It is rejected again; nothing that was beside it comes with it."""
    _, parsed = handled(name, sample, request_of(sample))
    provider = PROVIDERS[name](load_options(PROVIDERS[name], sample.get("options", {}), {}))
    for rejection in parsed.rejections if parsed else ():
        item = json.loads(rejection.event.data)["item"]
        again = provider.parse(parsed_alone(item.encode()))
        assert not again.events
        assert [json.loads(each.event.data)["item"] for each in again.rejections] == [item]


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_both_paths_give_the_same(name, sample):
    provider = PROVIDERS[name](load_options(PROVIDERS[name], sample.get("options", {}), {}))
    request = request_of(sample)
    fast, slow = provider.parse_fast(request), provider.parse_slow(request)
    if fast is not None:
        assert fast.events == slow.events
        assert (fast.pending, fast.ignored, fast.confirmation) == (slow.pending, slow.ignored, slow.confirmation)
        assert not slow.rejections
