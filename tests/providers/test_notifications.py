"""Topics of Amazon SNS and Huawei Cloud SMN: what needs signatures that are made here."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from marshmallow import ValidationError
from multidict import CIMultiDict

from receiver.errors import BadSignatureError, UnverifiableError
from receiver.events import EnvelopeBuilder
from receiver.providers import PROVIDERS
from receiver.providers.base import CallbackRequest
from receiver.providers.options import load_options

NOW = datetime(2026, 3, 1, 2, 0, 6, tzinfo=UTC)
TOPICS = {
    "amazon-sns": "arn:aws:sns:us-east-1:123456789012:sms-events",
    "huawei-smn": "urn:smn:cn-north-4:f96188c7ccaf4ffba0c9aa149ab2bd57:sms_events",
}
#: How the members are spelled, in the order of the signed text.
SPELLING = {
    "amazon-sns": {
        "message": "Message",
        "message_id": "MessageId",
        "subject": "Subject",
        "subscribe_url": "SubscribeURL",
        "timestamp": "Timestamp",
        "token": "Token",
        "topic": "TopicArn",
        "type": "Type",
        "version": "SignatureVersion",
        "signature": "Signature",
        "certificate": "SigningCertURL",
    },
    "huawei-smn": {
        "message": "message",
        "message_id": "message_id",
        "subject": "subject",
        "subscribe_url": "subscribe_url",
        "timestamp": "timestamp",
        "topic": "topic_urn",
        "type": "type",
        "version": "signature_version",
        "signature": "signature",
        "certificate": "signing_cert_url",
    },
}
CERTIFICATES = {
    "amazon-sns": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-01.pem",
    "huawei-smn": "https://smn.cn-north-4.myhuaweicloud.com/smn/SMN_cn-north-4_01.pem",
}
CONFIRMATIONS = {
    "amazon-sns": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=01",
    "huawei-smn": "https://console.huaweicloud.com/smn/subscription/confirm?token=01",
}
MESSAGES = {
    "amazon-sns": {
        "eventType": "TEXT_DELIVERED",
        "isFinal": True,
        "messageId": "862a8790-60c0-4430-9b2b-000000000001",
        "destinationPhoneNumber": "+14255550156",
    },
    "huawei-smn": {
        "event_type": "sms_success_event",
        "message_id": "ce7f2f7343224f8c9597b05a9a0bcc2e",
        "status": 1,
        "status_desc": "DELIVRD",
        "nation_code": "86",
        "mobile": "13445676789",
    },
}
REPLIES = {
    "amazon-sns": {
        "originationNumber": "+14255550182",
        "destinationNumber": "+12125550101",
        "messageBody": "YES",
        "inboundMessageId": "cae173d2-66b9-564c-8309-21f858e9fb84",
    },
    "huawei-smn": {
        "event_type": "sms_reply_event",
        "nation_code": "86",
        "mobile": "13445676789",
        "deliver_time": "2026-03-01T02:05:00Z",
        "reply": "TD",
    },
}
BOTH = sorted(TOPICS)
both = pytest.mark.parametrize("name", BOTH)


@cache
def private_key():
    """Return a key; making one takes a while."""
    return rsa.generate_private_key(65537, 2048)


def certificate_of(key, digest=SHA256, days=(-100, 100)):
    """Return a certificate in PEM, valid from and until so many days from now."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    begin, end = (NOW + timedelta(days=day) for day in days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
    return builder.sign(private_key(), digest()).public_bytes(Encoding.PEM)


def signed(name, message, digest=SHA256, **others):
    """Return a signed request of a provider."""
    spelling = SPELLING[name]
    version = "v1" if name == "huawei-smn" else "1" if digest is SHA1 else "2"
    members = {
        "type": "Notification",
        "topic": TOPICS[name],
        "message_id": "22b80b92",
        "message": message if isinstance(message, str) else json.dumps(message),
        "timestamp": "2026-03-01T02:00:04Z",
        "version": version,
        "certificate": CERTIFICATES[name],
        **others,
    }
    covered = list(spelling)[: list(spelling).index("type") + 1]
    text = "".join(f"{spelling[one]}\n{members[one]}\n" for one in covered if one in members)
    signature = private_key().sign(text.encode(), padding.PKCS1v15(), digest())
    members["signature"] = b64encode(signature).decode()
    body = json.dumps({spelling[one]: value for one, value in members.items()}).encode()
    return CallbackRequest("POST", f"/callbacks/{name}/default", CIMultiDict(), body)


def provider_of(name, **options):
    """Return a provider with these options; the topic is allowed."""
    return PROVIDERS[name](load_options(PROVIDERS[name], {"allowed_topics": [TOPICS[name]], **options}, {}))


def verify(provider, request, certificate=None):
    """Do what the web layer does before it parses."""
    provider.certificate_url(request)
    provider.verify(request, NOW.timestamp(), certificate or certificate_of(private_key()))


def taken(name, request, **options):
    """Verify and parse a request."""
    provider = provider_of(name, **options)
    verify(provider, request)
    return provider.parse(request)


def ids(name, *events):
    """Return the ids of events."""
    return [EnvelopeBuilder(name, "default").build(event, "topic", 0).id for event in events]


@both
@pytest.mark.parametrize("messages", [MESSAGES, REPLIES])
def test_a_retry_in_another_envelope_gives_the_same_event(name, messages):
    first = taken(name, signed(name, messages[name]))
    again = taken(name, signed(name, messages[name], message_id="5", timestamp="2026-03-01T02:00:44Z", subject="sms"))
    assert first.path == again.path == "fast"
    assert ids(name, *first.events) == ids(name, *again.events)


def test_a_reply_has_the_time_of_its_publication():
    """It has no other, and not the first one when it comes again."""
    (event,) = taken("amazon-sns", signed("amazon-sns", REPLIES["amazon-sns"])).events
    assert event.time == json.loads(event.data)["deliver_time"] == "2026-03-01T02:00:04Z"
    other = {**REPLIES["amazon-sns"], "inboundMessageId": "another"}
    (same_text,) = taken("amazon-sns", signed("amazon-sns", other)).events
    assert len(set(ids("amazon-sns", event, same_text))) == 2


@both
@pytest.mark.parametrize("message", ["disk is full", "[]", '"x"', "{}", '{"eventType":', '{"eventType":5}'])
def test_any_other_message_is_rejected_once_with_its_envelope(name, message):
    first = taken(name, signed(name, message))
    again = taken(name, signed(name, message, message_id="5"))
    assert not first.events
    assert ids(name, first.rejections[0].event) == ids(name, again.rejections[0].event)
    item = json.loads(first.rejections[0].event.data)["item"]
    assert item.encode() == signed(name, message).body
    assert first.rejections[0].problems[0].startswith(SPELLING[name]["message"])


@both
def test_without_a_topic_that_is_allowed_nothing_is_fetched_or_taken(name):
    """Also where a project never heard of the provider."""
    for provider in (PROVIDERS[name](), provider_of(name, allowed_topics=["another"])):
        assert provider.signed
        for step in (provider.certificate_url, lambda request, of=provider: verify(of, request)):
            with pytest.raises(BadSignatureError, match="allowed_topics"):
                step(signed(name, MESSAGES[name]))


def test_sha_1_is_taken_where_it_is_allowed():
    request = signed("amazon-sns", MESSAGES["amazon-sns"], SHA1)
    verify(provider_of("amazon-sns"), request)
    with pytest.raises(BadSignatureError, match="sha1"):
        verify(provider_of("amazon-sns", allow_sha1=False), request)


def test_the_digest_of_smn_is_that_of_the_certificate():
    request = signed("huawei-smn", MESSAGES["huawei-smn"], SHA384)
    verify(provider_of("huawei-smn"), request, certificate_of(private_key(), SHA384))
    with pytest.raises(BadSignatureError):
        verify(provider_of("huawei-smn"), request, certificate_of(private_key()))


@both
@pytest.mark.parametrize("version", ["3", "", "v2"])
def test_another_version_of_the_signature_is_refused(name, version):
    with pytest.raises(BadSignatureError):
        taken(name, signed(name, MESSAGES[name], version=version))


@both
def test_a_certificate_that_is_none_or_not_valid_now_tells_nothing(name):
    provider, request = provider_of(name), signed(name, MESSAGES[name])
    elliptic = certificate_of(ec.generate_private_key(ec.SECP256R1()))
    for certificate in (
        b"<html>",
        elliptic,
        certificate_of(private_key(), days=(-9, -1)),
        certificate_of(private_key(), days=(1, 9)),
    ):
        with pytest.raises(UnverifiableError):
            verify(provider, request, certificate)
    with pytest.raises(UnverifiableError):
        provider.verify(request, NOW.timestamp())


@both
def test_the_signature_of_another_key_is_refused(name):
    other = certificate_of(rsa.generate_private_key(65537, 2048))
    with pytest.raises(BadSignatureError, match="wrong"):
        verify(provider_of(name), signed(name, MESSAGES[name]), other)


FOREIGN = {
    "amazon-sns": [
        "http://sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com.example.net/a.pem",
        "https://sns.us-east-1.amazonaws.com@example.net/a.pem",
        "https://sns.us-east-1.amazonaws.com:8443/a.pem",
        "https://sns.s3-us-west-2.amazonaws.com/a.pem",
        "https://sns.s3.us-west-2.amazonaws.com/a.pem",
        "https://bucket.s3.amazonaws.com/a.pem",
        "https://example.net/sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com/a.pem\n",
        " https://sns.us-east-1.amazonaws.com/a.pem",
        "",
    ],
    "huawei-smn": [
        "http://smn.cn-north-4.myhuaweicloud.com/smn/a.pem",
        "https://smn.cn-north-4.myhuaweicloud.com.example.net/smn/a.pem",
        "https://smn.cn-north-4.myhuaweicloud.com@example.net/smn/a.pem",
        "https://smn.obs.cn-north-4.myhuaweicloud.com/smn/a.pem",
        "https://smn.obs.myhuaweicloud.com/smn/a.pem",
        "https://obs.cn-north-4.myhuaweicloud.com/bucket/a.pem",
        "https://smn.cn-north-4.myhuaweicloud.com\\.example.net/a.pem",
        "",
    ],
}
FOREIGN_TO_BOTH = [(name, url) for name in BOTH for url in FOREIGN[name]]


@pytest.mark.parametrize(("name", "url"), FOREIGN_TO_BOTH)
def test_nothing_is_fetched_from_a_foreign_host(name, url):
    """A bucket is one: anybody can have it."""
    provider = provider_of(name)
    with pytest.raises(BadSignatureError):
        provider.certificate_url(signed(name, MESSAGES[name], certificate=url))
    with pytest.raises(BadSignatureError):
        provider.certificate_url(signed(name, "Confirm.", type="SubscriptionConfirmation", subscribe_url=url))


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("amazon-sns", "sns.us-gov-west-1.amazonaws.com"),
        ("amazon-sns", "sns.cn-north-1.amazonaws.com.cn"),
        ("huawei-smn", "smn.ap-southeast-3.myhuaweicloud.com"),
        ("huawei-smn", "console.eu-west-101.huaweicloud.com"),
    ],
)
def test_hosts_of_any_region_are_known(name, host):
    url = f"https://{host}/a.pem"
    assert provider_of(name).certificate_url(signed(name, MESSAGES[name], certificate=url)) == url


def test_hosts_of_another_cloud_are_configured_in_full():
    request = signed("huawei-smn", MESSAGES["huawei-smn"], certificate="https://smn.eu-de.otc.example.com/a.pem")
    provider_of("huawei-smn", allowed_hosts=["smn.eu-de.otc.example.com"]).certificate_url(request)
    with pytest.raises(BadSignatureError):
        provider_of("huawei-smn", allowed_hosts=["smn.*.otc.example.com"]).certificate_url(request)
    for wrong in (".myhuaweicloud.com", "*", "*.com", "https://example.com"):
        with pytest.raises(ValidationError, match="stands for a region"):
            provider_of("huawei-smn", allowed_hosts=[wrong])


@both
def test_a_confirmation_is_fetched_only_where_a_subscription_begins(name):
    url = CONFIRMATIONS[name]
    token = {"token": "01"} if name == "amazon-sns" else {}
    begin = taken(name, signed(name, "Confirm.", type="SubscriptionConfirmation", subscribe_url=url, **token))
    assert begin.confirmation == url
    for kind in ("UnsubscribeConfirmation", "HttpSubscriptionUserConfirm"):
        other = taken(name, signed(name, "Confirm.", type=kind, subscribe_url=url, **token))
        assert (other.confirmation, other.ignored, other.events) == (None, 1, [])


@both
def test_the_url_of_a_confirmation_is_signed(name):
    request = signed(name, "Confirm.", type="SubscriptionConfirmation", subscribe_url=CONFIRMATIONS[name])
    request.body = request.body.replace(b"=01", b"=02")
    with pytest.raises(BadSignatureError):
        verify(provider_of(name), request)


@both
def test_a_topic_of_a_stranger_cannot_be_passed_off_as_ours(name):
    """The signed text has no quotes: a message may hold the lines that would follow it."""
    spelling = SPELLING[name]
    lines = f"\n{spelling['message_id']}\n1\n{spelling['timestamp']}\n2026-03-01T02:00:04Z\n{spelling['topic']}\n"
    ours = f"{json.dumps(MESSAGES[name])}{lines}{TOPICS[name]}\n{spelling['type']}\nNotification\n"
    theirs = json.loads(signed(name, ours, topic="theirs").body)
    for changes in (
        {spelling["topic"]: TOPICS[name]},
        {spelling["topic"]: TOPICS[name], spelling["message"]: json.dumps(MESSAGES[name])},
    ):
        body = json.dumps({**theirs, **changes}).encode()
        with pytest.raises(BadSignatureError):
            verify(provider_of(name), CallbackRequest("POST", "/", CIMultiDict(), body))


@both
def test_an_event_without_an_envelope_is_refused(name):
    """As raw message delivery sends it: without a signature."""
    body = json.dumps(MESSAGES[name]).encode()
    with pytest.raises(BadSignatureError, match="envelope"):
        provider_of(name).certificate_url(CallbackRequest("POST", "/", CIMultiDict(), body))


@both
def test_an_age_is_asked_for_where_it_is_configured(name):
    old = signed(name, MESSAGES[name], timestamp="2026-03-01T00:30:00.000Z")
    assert taken(name, old).events
    assert taken(name, signed(name, MESSAGES[name]), clock_tolerance="1h").events
    with pytest.raises(BadSignatureError, match="s from our clock"):
        taken(name, old, clock_tolerance="1h")
    with pytest.raises(BadSignatureError, match="cannot be read"):
        taken(name, signed(name, MESSAGES[name], timestamp="soon"), clock_tolerance="1h")


@pytest.mark.parametrize(
    ("changes", "options", "became"),
    [
        ({"eventType": "TEXT_SUCCESSFUL"}, {}, "sms_success_event"),
        ({"eventType": "TEXT_SUCCESSFUL", "isFinal": False}, {}, "pending"),
        ({"eventType": "TEXT_NEW", "isFinal": False}, {"pending": True}, "sms_sent_event"),
        ({"eventType": "TEXT_SENT"}, {}, "pending"),
        ({"eventType": "TEXT_PROTECT_BLOCKED"}, {}, "sms_fail_event"),
        ({"eventType": "TEXT_UNKNOWN"}, {}, "sms_fail_event"),
        ({"eventType": "TEXT_UNKNOWN"}, {"inconclusive": "ignore"}, "pending"),
        ({"eventType": "TEXT_NEW"}, {}, "rejected"),
        ({"eventType": "VOICE_COMPLETED"}, {}, "ignored"),
        ({"eventType": "MEDIA_DELIVERED", "messageId": None}, {}, "ignored"),
        ({"isFinal": "yes"}, {}, "rejected"),
    ],
)
def test_what_becomes_of_the_states_of_amazon(changes, options, became):
    parsed = taken("amazon-sns", signed("amazon-sns", {**MESSAGES["amazon-sns"], **changes}), **options)
    kinds = [event.type for event in parsed.events]
    kinds += ["rejected"] * len(parsed.rejections) + ["ignored"] * parsed.ignored
    assert (kinds or ["pending"]) == [became]
    assert parsed.pending == (became in {"pending", "sms_sent_event"})


@pytest.mark.parametrize("changes", [{"status": 2}, {"event_type": "sms_fail_event"}, {"event_type": "sms_new_event"}])
def test_a_report_of_smn_that_contradicts_itself_is_rejected(changes):
    parsed = taken("huawei-smn", signed("huawei-smn", {**MESSAGES["huawei-smn"], **changes}))
    assert (len(parsed.rejections), parsed.events) == (1, [])


@both
def test_unknown_members_are_kept_of_the_message_and_left_out_of_the_envelope(name):
    request = signed(name, {**MESSAGES[name], "new": {"a": 1}})
    request.body = request.body.replace(b"{", b'{"MessageAttributes":{"a":1},', 1)
    (event,) = taken(name, request).events
    assert json.loads(event.data)["extra"] == {"new": {"a": 1}}
