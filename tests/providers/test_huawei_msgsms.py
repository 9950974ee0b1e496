"""Huawei Cloud MSGSMS: signatures of Huawei's own SDK, and what the samples cannot say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from multidict import CIMultiDict

from receiver.errors import BadSignatureError
from receiver.events import EnvelopeBuilder
from receiver.providers.base import CallbackRequest, request_of
from receiver.providers.huawei_msgsms import HuaweiMsgsms
from receiver.providers.options import load_options

SIGNED_AT = datetime(2026, 3, 1, 2, 0, 3, tzinfo=UTC).timestamp()
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
REPORT = {"smsMsgId": "2ea20735_1", "status": "DELIVRD", "updateTime": "2026-03-01T02:00:03Z"}
KEYS = {"old": "old secret", "new": "new secret"}


def provider_of(**options):
    """Return the provider with these options."""
    return HuaweiMsgsms(load_options(HuaweiMsgsms, options, {}))


def signed(body, content_type, access_key="new", query=()):
    """Return a request as Huawei's SDK signs it."""
    headers = {"Host": "sms.example.com", "Content-Type": content_type, "X-Sdk-Date": "20260301T020003Z"}
    path = "/callbacks/huawei-msgsms/default"
    request = SdkRequest(
        method="POST",
        host="sms.example.com",
        resource_path=path,
        query_params=list(query),
        header_params=headers,
        body=body,
    )
    credentials = SimpleNamespace(ak=access_key, sk=KEYS.get(access_key, "any"))
    request = Signer(credentials).sign(request)
    return CallbackRequest("POST", request.uri, CIMultiDict(request.header_params), body.encode())


def verify(request, now=SIGNED_AT, **options):
    """Verify a request."""
    provider_of(access_keys=KEYS, **options).verify(request, now)


def parse(body, **options):
    """Parse a body."""
    return provider_of(**options).parse(request_of(body.encode()))


def ids(*bodies):
    """Return the ids of all events of bodies."""
    builder = EnvelopeBuilder("huawei-msgsms", "default")
    return [builder.build(event, "topic", 0).id for body in bodies for event in parse(body).events]


@pytest.mark.parametrize("access_key", KEYS)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [(urlencode(REPORT), FORM), (json.dumps({"statusReportList": [REPORT]}), JSON), ("", FORM), ("", JSON)],
)
@pytest.mark.parametrize("query", [(), (("a b", "é"), ("key", "x+y"))])
def test_a_signature_of_huaweis_sdk_is_accepted(access_key, body, content_type, query):
    """With either of two keys, while one replaces the other."""
    verify(signed(body, content_type, access_key, query))


@pytest.mark.parametrize(("late", "tolerance"), [(901, None), (-901, None), (61, "1m")])
def test_a_signature_of_another_time_is_refused(late, tolerance):
    options = {} if tolerance is None else {"clock_tolerance": tolerance}
    with pytest.raises(BadSignatureError):
        verify(signed("a=b", FORM), SIGNED_AT + late, **options)
    verify(signed("a=b", FORM), SIGNED_AT + late, clock_tolerance="20m")


def test_what_is_signed_with_an_unknown_key_is_refused():
    with pytest.raises(BadSignatureError, match="unknown key"):
        verify(signed("a=b", FORM, "another"))


def test_a_body_is_left_out_only_by_whoever_signed_so():
    request = signed('{"statusReportList":[]}', JSON)
    request.headers["X-Sdk-Content-Sha256"] = "UNSIGNED-PAYLOAD"
    verify(request)
    request.body = b'{"statusReportList":[{}]}'
    with pytest.raises(BadSignatureError):
        verify(request)


@pytest.mark.parametrize("authorization", ["Basic YTpi", "SDK-HMAC-SHA256 Access=new", "SDK-SM3 Access=new"])
def test_another_authorization_is_refused(authorization):
    request = signed("a=b", FORM)
    request.headers["Authorization"] = authorization
    with pytest.raises(BadSignatureError):
        verify(request)


def test_without_a_key_nothing_is_signed():
    assert not provider_of().signed
    assert provider_of(access_keys=KEYS).signed


def test_parts_are_events_of_their_own_and_a_report_is_one_however_it_comes():
    parts = [{**REPORT, "total": "2", "sequence": number} for number in ("1", "2")]
    forms = [urlencode(part) for part in parts]
    assert len(set(ids(*forms))) == 2
    assert ids(*forms) == ids(json.dumps({"statusReportList": parts})) == ids(*forms)


@pytest.mark.parametrize(
    ("state", "options", "became"),
    [
        ("ACCEPTD", {}, []),
        ("ACCEPTD", {"pending": True, "inconclusive": "success"}, ["sms_sent_event"]),
        ("UNKNOWN", {}, ["sms_fail_event"]),
        ("UNKNOWN", {"inconclusive": "ignore"}, []),
        ("UNKNOWN", {"inconclusive": "ignore", "pending": True}, ["sms_sent_event"]),
        ("MK:0001", {}, ["sms_fail_event"]),
    ],
)
def test_each_state_has_its_outcome(state, options, became):
    parsed = parse(urlencode({**REPORT, "status": state}), **options)
    assert [event.type for event in parsed.events] == became
    assert parsed.pending == (became in ([], ["sms_sent_event"]))


def test_what_is_empty_is_left_out():
    body = urlencode({**dict.fromkeys(("updateTime", "extend", "to", "total", "statusDesc"), ""), "status": "EXPIRED"})
    (event,) = parse(f"{body}&smsMsgId=1").events
    assert json.loads(event.data) == {
        "event_type": "sms_fail_event",
        "message_id": "1",
        "status": 2,
        "status_desc": "EXPIRED",
    }


def test_a_bad_report_of_a_list_harms_no_other_and_is_rejected_again_alone():
    parsed = parse(json.dumps({"statusReportList": [REPORT, {"status": "DELIVRD"}, 5]}))
    assert len(parsed.events) == 1
    assert [each.problems for each in parsed.rejections] == [
        ["statusReportList[1].smsMsgId: Missing data for required field."],
        ["statusReportList[2]: expected an object, got a number"],
    ]
    again = parse(json.loads(parsed.rejections[0].event.data)["item"])
    assert again.rejections[0].problems == ["smsMsgId: Missing data for required field."]


@pytest.mark.parametrize("body", ["from=1&to=2&smsMsgId=3", "smsMsgId=3", "status=DELIVRD&smsMsgId=3&updateTime=soon"])
def test_a_form_that_lacks_something_is_rejected(body):
    parsed = parse(body)
    assert (len(parsed.rejections), parsed.events) == (1, [])
