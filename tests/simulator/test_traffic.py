"""Invented traffic: what each provider's own parser says of it, without a service."""

from __future__ import annotations

import hashlib
import json

import pytest

from receiver.providers import PROVIDERS
from receiver.providers.base import CallbackRequest
from receiver.simulator.behaviour import BEHAVIOURS
from receiver.simulator.signers import SIGNED
from receiver.simulator.styles import STYLES, traffic_of
from receiver.simulator.tencent import TENCENT
from receiver.simulator.traffic import Shares, Traffic

#: What a signer adds to an envelope, in both spellings.
ENVELOPE = {
    "TopicArn": "t",
    "SignatureVersion": "2",
    "SigningCertURL": "u",
    "Signature": "s",
    "topic_urn": "t",
    "signature_version": "v1",
    "signing_cert_url": "u",
    "signature": "s",
}


def parsed(name, callback):
    """Return what a provider makes of a callback that is not signed."""
    request = callback.request("http://127.0.0.1/callbacks/x/y")
    body = request.body
    if name in ("amazon-sns", "huawei-smn"):
        body = json.dumps(json.loads(body) | ENVELOPE).encode()
    return PROVIDERS[name]().parse(CallbackRequest(request.method, request.url, request.headers, body))


def test_every_simulated_provider_has_a_style_and_a_behaviour_and_signs_if_it_verifies():
    assert set(STYLES) == set(BEHAVIOURS) <= set(PROVIDERS)
    unsigned = PROVIDERS["tencent"].verify
    assert {name for name in STYLES if PROVIDERS[name].verify is not unsigned} == SIGNED


@pytest.mark.parametrize("name", STYLES)
def test_traffic_is_in_the_form_of_its_provider(name):
    traffic = traffic_of(PROVIDERS[name], 3, Shares(fail=0.3, reply=0.2, invalid=0, pending=0.3), seed=7)
    seen = set()
    for _ in range(60):
        callback = traffic.next()
        became = parsed(name, callback)
        assert not became.rejections
        assert not became.ignored
        assert became.pending == callback.pending
        assert len(became.events) == callback.items - callback.pending
        seen |= {str(event.type) for event in became.events}
        ids = {json.loads(event.data).get("message_id") for event in became.events if event.type != "sms_reply_event"}
        assert ids <= set(callback.ids)
    assert seen == {"sms_success_event", "sms_fail_event", "sms_reply_event"}


@pytest.mark.parametrize("name", STYLES)
def test_each_mistake_breaks_the_schema(name):
    traffic = traffic_of(PROVIDERS[name], 3, Shares(fail=0.3, reply=0, invalid=1, pending=0.3), seed=7)
    for _ in range(60):
        callback = traffic.next()
        became = parsed(name, callback)
        assert len(became.rejections) == callback.invalid > 0
        assert len(became.events) + became.pending == callback.items - callback.invalid


@pytest.mark.parametrize("name", STYLES)
def test_a_seed_makes_the_same_traffic_and_no_two_equal_events(name):
    shares = Shares(fail=0.3, reply=0.3, invalid=0, pending=0)
    first, second = (traffic_of(PROVIDERS[name], 2, shares, seed=3) for _ in range(2))
    callbacks = [first.next() for _ in range(40)]
    assert callbacks == [second.next() for _ in range(40)]
    events = [event.identity or event.data for callback in callbacks for event in parsed(name, callback).events]
    assert len(set(events)) == len(events)


@pytest.mark.parametrize(
    ("batch", "shares", "seed", "digest"),
    [
        (10, Shares(0.1, 0.05, 0), 7, "ddd7ab23c07856b774fd730afe05436d8a468a0d76180e3571c775e1c3dceb85"),
        (3, Shares(0.3, 0.2, 0.3), -1, "9c635999addcc4fa5e61279bf9b9d516bff26280d2cb134a502ad0b116120748"),
        (1, Shares(0.5, 0.1, 0.2), 42, "706d3add05232dd22b60b62efbbcd6636b4fdfe69ca85f5517f02a36621948f7"),
    ],
)
def test_a_seed_makes_the_bytes_that_it_made_when_tencent_was_the_only_provider(batch, shares, seed, digest):
    traffic, sha = Traffic(TENCENT, batch, shares, seed), hashlib.sha256()
    for _ in range(200):
        callback = traffic.next()
        sha.update(callback.body + "".join(callback.ids).encode())
    assert sha.hexdigest() == digest
