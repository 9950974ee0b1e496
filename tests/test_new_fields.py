"""Fields that the schema does not know are named once in the log, and counted, whatever somebody invents."""

from __future__ import annotations

import json

import pytest
import structlog
from multidict import CIMultiDict
from prometheus_client import generate_latest

from receiver import metrics
from receiver.new_fields import MAX_NAMES, NewFields
from receiver.providers import PROVIDERS
from receiver.providers.base import CallbackRequest


def counted(provider: str) -> dict[str, float]:
    """Return the counts of a provider by field."""
    samples = [sample for family in metrics.NEW_FIELDS.collect() for sample in family.samples]
    return {one.labels["field"]: one.value for one in samples if one.labels["provider"] == provider}


def test_each_name_is_logged_once_and_counted() -> None:
    with structlog.testing.capture_logs() as logs:
        fields = NewFields(structlog.get_logger("test"))
        for _ in range(2):
            fields.count("named", {"price.vat": 2, "campaign": 1})
            fields.report()
    assert [(log["event"], log["provider"], log["field"]) for log in logs] == [
        ("provider.new_field", "named", "price.vat"),
        ("provider.new_field", "named", "campaign"),
    ]
    assert counted("named") == {"price.vat": 4, "campaign": 2}


def test_names_are_bounded() -> None:
    """Somebody with a key invents as many as they like."""
    with structlog.testing.capture_logs() as logs:
        fields = NewFields(structlog.get_logger("test"))
        fields.count("invented", {f"x{a}y{b}": 1 for a in range(100) for b in range(100)})
        fields.report()
    assert len(logs) == MAX_NAMES
    assert len(counted("invented")) == MAX_NAMES + 1
    assert counted("invented")["other"] == 10_000 - MAX_NAMES


@pytest.mark.parametrize(
    "name", ["13800138000", "m13800138000", "", "a b", "ваше имя", "x" * 65, 'a"}\n', "你的验证码"]
)
def test_a_name_that_is_no_name_of_a_field_is_not_written_anywhere(name: str) -> None:
    """It may be a phone number or a text."""
    with structlog.testing.capture_logs() as logs:
        fields = NewFields(structlog.get_logger("test"))
        fields.count("private", {name: 1})
        fields.report()
    assert logs == []
    assert set(counted("private")) == {"other"}
    assert b"13800138000" not in generate_latest(metrics.OURS)


NESTED = {
    "infobip": '{"results":[{"messageId":"m","to":"41793026727","status":{"groupId":3,"new":1},"campaign":2}]}',
    "telnyx": '{"data":{"event_type":"message.finalized","occurred_at":"2026-03-01T02:00:03Z","new":1,"payload":'
    '{"id":"m","from":{"phone_number":"+1"},"to":[{"phone_number":"+1","status":"delivered","mcc":"310"}]}}}',
    "tencent": '[{"sid":"1","nationcode":"86","mobile":"1","report_status":"SUCCESS","errmsg":"","description":"",'
    '"user_receive_time":"2026-03-01 10:00:03","new":{"13800138000":1}}]',
}


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("infobip", {"status.new": 1, "campaign": 1}),
        ("telnyx", {"new": 1, "payload.to.mcc": 1}),
        ("tencent", {"new": 1}),
    ],
)
def test_fields_of_nested_objects_are_named_by_their_path(provider: str, expected: dict[str, int]) -> None:
    """What a new field holds is not looked at."""
    request = CallbackRequest("POST", "", CIMultiDict(), NESTED[provider].encode())
    parsed = PROVIDERS[provider]().parse(request)
    assert len(parsed.events) == 1, parsed.rejections
    assert parsed.new_fields == expected


def test_an_item_names_a_bounded_number_of_them() -> None:
    item = json.loads(NESTED["tencent"])[0] | {f"f{number}": 1 for number in range(1000)}
    parsed = PROVIDERS["tencent"]().parse(CallbackRequest("POST", "", CIMultiDict(), json.dumps([item]).encode()))
    assert len(parsed.events) == 1
    assert len(parsed.new_fields or {}) == MAX_NAMES


def test_what_is_as_expected_has_none() -> None:
    item = json.loads(NESTED["tencent"])[0]
    del item["new"]
    parsed = PROVIDERS["tencent"]().parse(CallbackRequest("POST", "", CIMultiDict(), json.dumps([item]).encode()))
    assert (parsed.path, parsed.new_fields) == ("fast", None)
