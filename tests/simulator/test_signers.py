"""Signatures of simulated providers, as the providers' own parts verify them."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest
from multidict import CIMultiDict

from receiver.errors import BadSignatureError, ReceiverError
from receiver.providers import PROVIDERS
from receiver.providers.base import CallbackRequest
from receiver.providers.options import load_options
from receiver.simulator.private_keys import PrivateKey, make_key, public_key
from receiver.simulator.signers import signer_of
from receiver.simulator.styles import STYLES, traffic_of
from receiver.simulator.traffic import Shares

SECRET = "a secret & more of it, long enough for HS256"
OPTIONS = {
    "twilio": {"auth_tokens": [SECRET]},
    "plivo": {"auth_tokens": [SECRET]},
    "messagebird": {"signing_keys": [SECRET]},
    "infobip": {"credentials": ["user:pass:word"]},
    "sinch": {"webhook_secrets": [SECRET]},
    "yunpian": {"api_keys": [SECRET]},
    "huawei-msgsms": {"access_keys": {"AK": SECRET}},
    "vonage": {"signature_secrets": [SECRET]},
}
METHODS = ("md5hash", "md5", "sha1", "sha256", "sha512")
CASES = [*OPTIONS.items(), *(("vonage", OPTIONS["vonage"] | {"signature_method": method}) for method in METHODS[1:])]
#: A query that has to be written otherwise in some signatures, and a port.
URL = "http://127.0.0.1:8080/callbacks/x/y?b=2&a=%20%2B~&key=a+b"


def provider_of(name, options):
    """Return a provider with a prefix in its public URL."""
    return PROVIDERS[name](load_options(PROVIDERS[name], options, {}), public_url="https://sms.example.com/in")


def received(request):
    """Return a request as the service receives it."""
    parts = urlsplit(request.url)
    headers = CIMultiDict({"Host": parts.netloc, **request.headers})
    return CallbackRequest(request.method, f"{parts.path}?{parts.query}", headers, request.body)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_provider_takes_its_own_signature_and_no_other(name, options):
    provider, other = (provider_of(name, one) for one in (options, another(options)))
    traffic = traffic_of(PROVIDERS[name], 2, Shares(fail=0.3, reply=0.5, invalid=0, pending=0.2), seed=1)
    sign, now, refused = signer_of(provider), time.time(), 0
    for _ in range(20):
        request = sign(traffic.next().request(URL), now)
        provider.verify(received(request), now)
        try:
            other.verify(received(request), now)
        except BadSignatureError:
            refused += 1
        else:
            assert request.body.startswith(b"sms_status=")  # reports of Yunpian are not signed
    assert refused


def another(options):
    """Return options with other secrets."""
    return {
        name: value if name == "signature_method" else {"AK": "other"} if isinstance(value, dict) else ["other:one" * 5]
        for name, value in options.items()
    }


def test_telnyx_signs_with_a_key_of_its_own(tmp_path):
    key = make_key(tmp_path / "key.pem")
    provider = provider_of("telnyx", {"public_keys": [public_key(key)]})
    request = traffic_of(PROVIDERS["telnyx"], 1, Shares(0, 0, 0), seed=1).next().request(URL)
    signed = signer_of(provider, PrivateKey(key))(request, time.time())
    provider.verify(received(signed), time.time())
    with pytest.raises(BadSignatureError):
        provider.verify(received(signed._replace(body=signed.body + b" ")), time.time())
    with pytest.raises(ReceiverError, match="RSA"):
        signer_of(provider_of("amazon-sns", {}), PrivateKey(key))


@pytest.mark.parametrize("name", STYLES)
def test_nothing_is_signed_for_a_project_that_verifies_nothing(name):
    provider = PROVIDERS[name]()
    if not provider.verifies:
        assert signer_of(provider) is None
    else:
        with pytest.raises(ReceiverError, match="key of its own"):
            signer_of(provider)
