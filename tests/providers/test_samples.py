"""Requests as providers send them, signatures included: ``payloads/<provider>/samples.json``.

A sample has the request, the project's ``options`` and ``public_url`` as in the TOML file, the clock (``now``), what
fetches would return (``certificates``), and what is expected. The signature of one that is
``sender_only`` covers no parameters.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from receiver.errors import BadSignatureError, ReceiverError, UnverifiableError
from receiver.events import EnvelopeBuilder
from receiver.providers import PROVIDERS
from receiver.providers.base import CallbackRequest
from receiver.providers.base import request_of as parsed_alone
from receiver.providers.options import load_options

#: Options with secrets of signatures.
SIGNERS = {
    "auth_tokens",
    "webhook_secrets",
    "public_keys",
    "signature_secrets",
    "allowed_topics",
    "access_keys",
    "signing_keys",
}
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


def provider_of(name, sample):
    """Return the provider with the options of a sample."""
    options = load_options(PROVIDERS[name], sample.get("options", {}), {})
    return PROVIDERS[name](options, public_url=sample.get("public_url", ""))


def fetched(sample, url):
    """Return what a fetch of a certificate returns."""
    if url not in sample["certificates"]:
        raise UnverifiableError("the host does not answer")
    return sample["certificates"][url].encode()


def handled(name, sample, request):
    """Do with a request what the web layer does: return the answer, and what was parsed, or None."""
    provider = provider_of(name, sample)
    now = datetime.fromisoformat(sample["now"]).timestamp() if "now" in sample else 1772330406.0
    try:
        if provider.verifies:
            url = provider.certificate_url(request)
            provider.verify(request, now, None if url is None else fetched(sample, url))
    except ReceiverError as error:
        return provider.refuse(error.status, str(error)), None
    parsed = provider.parse(request)
    if parsed.rejections and not parsed.events and not provider.drops_on_4xx:
        return provider.refuse(400, parsed.rejections[0].problems[0]), parsed
    return provider.ack, parsed


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
    if expected.get("ignored"):
        assert parsed.path == "fast", "what is merely ignored is no sign of another format"
    assert parsed.pending == expected.get("pending", 0)
    assert parsed.ignored == expected.get("ignored", 0)
    assert parsed.confirmation == expected.get("fetch")
    quarantined = expected.get("quarantined", 1 if expected["status"] == 400 else 0)
    assert len(parsed.rejections) == quarantined


def ids(name, parsed):
    """Return the ids of all events, rejected ones included."""
    builder = EnvelopeBuilder(name, "default")
    events = [*parsed.events, *(rejection.event for rejection in parsed.rejections)]
    return [builder.build(event, "topic", 0).id for event in events]


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
    provider = provider_of(name, sample)
    for rejection in parsed.rejections if parsed else ():
        item = json.loads(rejection.event.data)["item"]
        again = provider.parse(parsed_alone(item.encode()))
        assert not again.events
        assert [json.loads(each.event.data)["item"] for each in again.rejections] == [item]


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_both_paths_give_the_same(name, sample):
    provider = provider_of(name, sample)
    request = request_of(sample)
    fast, slow = provider.parse_fast(request), provider.parse_tolerant(request)
    if fast is not None:
        assert fast.events == slow.events
        assert (fast.pending, fast.ignored, fast.confirmation) == (slow.pending, slow.ignored, slow.confirmation)
        assert not slow.rejections


def mutated(data, text):
    """Return a text of which some characters are others, or gone."""
    at = data.draw(st.integers(0, len(text)))
    until = data.draw(st.integers(at, min(len(text), at + 12)))
    return text[:at] + data.draw(st.text(max_size=8)) + text[until:]


#: Of these the request itself is signed, not only its sender authenticated.
SIGNED = [
    (name, sample)
    for name, sample in (case.values for case in SAMPLES)
    if sample["expect"]["status"] == 200 and sample["expect"]["events"] and set(sample.get("options", {})) & SIGNERS
    if not sample.get("sender_only")
]


@given(st.sampled_from(SIGNED), st.data())
def test_a_signed_request_that_was_changed_is_refused_or_says_the_same(case, data):
    """Whatever is changed of body, target or headers: it is no failure, and no other event comes of it."""
    name, sample = case
    part = data.draw(st.sampled_from(["body", "path_query", *sample["headers"]]))
    changed = {**sample, "headers": dict(sample["headers"])}
    holder = changed["headers"] if part in sample["headers"] else changed
    holder[part] = "/" * (part == "path_query") + mutated(data, holder[part]).lstrip("/")
    answer, parsed = handled(name, changed, request_of(changed))
    if parsed is None:
        assert answer.status in (401, 503)
    else:
        assert ids(name, parsed) == ids(name, handled(name, sample, request_of(sample))[1])


@pytest.mark.parametrize("name", sorted({name for name, _ in SIGNED}))
@pytest.mark.parametrize("body", [b"%ff=%ff", b"\xff", b"a&" * 1000, b'{"a":"\\ud800"}', b"{", b"[]", b"[" * 100_000])
def test_a_request_that_cannot_be_read_is_not_signed(name, body):
    sample = next(each for other, each in SIGNED if other == name)
    with pytest.raises(BadSignatureError):
        provider_of(name, sample).verify(
            CallbackRequest("POST", "/", CIMultiDict(sample["headers"]), body), 1772330406.0
        )


@pytest.mark.parametrize("name", [name for name in PROVIDERS if "GET" in PROVIDERS[name].methods])
def test_a_query_that_is_not_utf8_is_kept_and_not_signed(name):
    """The HTTP library hands such bytes over as surrogates."""
    target = f"/callbacks/{name}/default?status=\udcff&key=k"
    provider = PROVIDERS[name](public_url="https://sms.example.com")
    parsed = provider.parse(CallbackRequest("GET", target, CIMultiDict(), b""))
    assert [json.loads(each.event.data)["item_base64"] for each in parsed.rejections] == ["c3RhdHVzPf8="]
    for other, sample in SIGNED:
        if other == name:
            request = CallbackRequest("GET", target, CIMultiDict(sample["headers"]), b"")
            with pytest.raises(BadSignatureError):
                provider_of(name, sample).verify(request, 1772330406.0)


@given(st.sampled_from([case.values for case in SAMPLES]), st.data())
def test_whatever_a_request_holds_parsing_it_does_not_fail(case, data):
    name, sample = case
    provider = provider_of(name, sample)
    part = "body" if sample["body"] else "path_query"
    parsed = provider.parse(request_of({**sample, part: mutated(data, sample[part])}))
    for rejection in parsed.rejections:
        assert rejection.problems
