"""What an id or phone number matches."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from receiver.search.wanted import Wanted
from receiver.streams.stored_event import decode_event

EVENT_ID = "c59313bdd967a7a4a5b7f2cc64ca6bda"


def entry(event_type: str = "sms_success_event", **data: Any) -> bytes:
    """Return the ``data`` of an entry, as it is written to a stream."""
    return msgspec.json.encode({"id": EVENT_ID, "type": event_type, "source": "/tencent/default", "data": data})


def found(text: str, data: bytes) -> bool:
    """Tell whether a search finds an entry. What the quick check refuses would never be decoded."""
    wanted = Wanted(text)
    event = decode_event(data)
    assert event is not None
    matches = wanted.matches(event)
    assert wanted.may_be(data) or not matches
    return wanted.may_be(data) and matches


@pytest.mark.parametrize(
    "text", ["13800138000", "+8613800138000", "008613800138000", "8613800138000", "+86 138-0013-8000"]
)
@pytest.mark.parametrize(
    "data",
    [
        {"mobile": "13800138000", "nation_code": "86"},
        {"mobile": "+8613800138000"},
        {"mobile": "86 138 0013 8000", "nation_code": "86"},
        {"mobile": "13800138000"},
    ],
)
def test_a_number_is_found_in_every_spelling(text: str, data: dict[str, str]) -> None:
    assert found(text, entry(**data))
    assert found(text, entry("sms_reply_event", reply="TD", **data))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("+8613800138000", {"mobile": "13800138000", "nation_code": "1"}),
        ("13800138000", {"mobile": "23800138000", "nation_code": "86"}),
        ("138000", {"mobile": "13800138000", "nation_code": "86"}),
        ("5000:1", {"message_id": "5000:10"}),
        ("5000:1", {"message_id": "15000:1"}),
        ("5000:1", {"message_id": "x", "extra": {"note": "5000:1"}}),
        ("", {"message_id": "x"}),
    ],
)
def test_what_only_looks_alike_is_not_found(text: str, data: dict[str, Any]) -> None:
    assert not found(text, entry(**data))


@pytest.mark.parametrize("text", ["5000:1", 'a"b\\c', "a b%2B+é", "13xxxxxxxxx", "签名", "1"])
def test_an_id_is_found_whatever_it_is_made_of(text: str) -> None:
    assert found(text, entry(message_id=text, mobile="13800138000"))
    assert found(text, entry("sms_reply_event", in_reply_to=text, mobile="13800138000"))
    for item in (msgspec.json.encode({"sid": text, "text": 5}).decode(), urlencode({"MessageSid": text})):
        assert found(text, entry("sms_rejected_event", reasons=["x"], item=item)), item
    hidden = base64.b64encode(text.encode() + b"\xff").decode()
    assert found(text, entry("sms_rejected_event", reasons=["x"], item_base64=hidden))


def test_an_event_is_found_by_its_own_id() -> None:
    assert found(EVENT_ID, entry(message_id="x"))
    assert not found(EVENT_ID.replace("c", "d"), entry(message_id="x"))


@pytest.mark.parametrize(
    "item", ['{"mobile":"13800138000","n":1}', "To=%2B8613800138000&x=1", '{"to":"+86 138-0013-8000"}']
)
def test_a_rejected_item_is_found_by_a_number_in_it(item: str) -> None:
    data = entry("sms_rejected_event", reasons=["x"], item=item)
    assert found("+8613800138000", data)
    assert not found("+8613800138001", data)
