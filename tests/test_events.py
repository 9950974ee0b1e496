"""The wire form of an event and its id."""

from __future__ import annotations

import json
from hashlib import blake2b

import pytest

from receiver.events import EnvelopeBuilder, Event, EventType, ReplyData, ReportData, encode, give_back, replay, utc

DATA = ReportData(
    event_type=EventType.SUCCESS,
    message_id="5000:1",
    status=1,
    status_desc="DELIVRD",
    description="é",
    nation_code="86",
    mobile="13800138000",
    deliver_time="2015-10-17T00:03:04Z",
)
EVENT = Event(EventType.SUCCESS, "2015-10-17T00:03:04Z", encode(DATA))


def test_an_entry_is_a_cloudevent_in_compact_utf8():
    """Byte for byte as the design page has it."""
    entry = EnvelopeBuilder("tencent", "p1").build(EVENT, "urn:smn:local:p1:sms_success", 1_795_000_000_123)
    id_ = blake2b(b"p1\0/tencent/p1\0" + EVENT.data, digest_size=16)
    assert entry.topic == "urn:smn:local:p1:sms_success"
    assert entry.id == id_.digest()
    assert entry.data.decode() == (
        f'{{"specversion":"1.0","id":"{id_.hexdigest()}","source":"/tencent/p1","type":"sms_success_event",'
        '"time":"2015-10-17T00:03:04Z","receivedtime":"2026-11-18T11:06:40.123Z","data":{'
        '"event_type":"sms_success_event","message_id":"5000:1","status":1,"status_desc":"DELIVRD",'
        '"description":"é","nation_code":"86","mobile":"13800138000","deliver_time":"2015-10-17T00:03:04Z"}}'
    )


def test_the_id_depends_on_project_provider_and_data_alone():
    """Not on the topic, nor on when it came: a retry after a change of routes is the same event."""
    ids = [
        EnvelopeBuilder(provider, project).build(event, topic, at).id
        for provider, project, event, topic, at in [
            ("tencent", "p1", EVENT, "a", 1),
            ("tencent", "p1", EVENT, "b", 2),
            ("tencent", "p2", EVENT, "a", 1),
            ("other", "p1", EVENT, "a", 1),
            ("tencent", "p1", Event(EVENT.type, EVENT.time, EVENT.data + b" "), "a", 1),
        ]
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_an_id_is_made_of_the_identity_where_the_data_hold_the_time_of_a_push():
    """A retry has other data then, and is the same event."""
    ids = [
        EnvelopeBuilder("vonage", "p1").build(Event(EventType.REPLY, None, data, identity), "t", 1).id
        for data, identity in [(b'{"at":1}', b"{}"), (b'{"at":2}', b"{}"), (b"{}", None), (b'{"at":1}', None)]
    ]
    assert ids[0] == ids[1] == ids[2]
    assert ids[3] != ids[0]


def test_an_event_of_unknown_time_has_the_time_of_receipt():
    """CloudEvents' ``time`` is always there; a rejected item tells none."""
    entry = EnvelopeBuilder("tencent", "p1").build(Event(EventType.REJECTED, None, b"{}"), "t", 1)
    envelope = json.loads(entry.data)
    assert envelope["time"] == envelope["receivedtime"] == "1970-01-01T00:00:00.001Z"


def test_what_the_provider_does_not_tell_is_left_out():
    """Neither null nor empty texts are made up."""
    reply = ReplyData(
        event_type=EventType.REPLY, reply="TD", sign="s", nation_code="86", mobile="1", deliver_time=utc(0)
    )
    assert json.loads(encode(reply)).keys() == {
        "event_type", "reply", "sign", "nation_code", "mobile", "deliver_time",
    }  # fmt: skip


def test_the_order_of_foreign_keys_does_not_change_the_bytes():
    """They are sorted; our own stand in the order of the design page."""
    one = ReportData(**{**_fields(), "extra": {"b": {"d": 1, "c": 2}, "a": 3}})
    other = ReportData(**{**_fields(), "extra": {"a": 3, "b": {"c": 2, "d": 1}}})
    assert encode(one) == encode(other)
    assert encode(one).startswith(b'{"event_type":')


def _fields():
    return {name: getattr(DATA, name) for name in ReportData.__struct_fields__}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (951782400, "2000-02-29T00:00:00Z"),
        (1445040184, "2015-10-17T00:03:04Z"),
        (253402300799, "9999-12-31T23:59:59Z"),
    ],
)
def test_moments_are_utc_to_the_second(seconds, text):
    """Whatever zone the machine is in."""
    assert utc(seconds) == text


def test_a_replay_is_the_event_under_a_new_id_that_links_to_the_old():
    entry = EnvelopeBuilder("tencent", "p1").build(EVENT, "urn:smn:local:p1:sms_success", 1_795_000_000_123)
    again = replay(entry.data, "urn:smn:local:p1:elsewhere", "monday")
    assert again is not None
    assert again.topic == "urn:smn:local:p1:elsewhere"
    event, original = json.loads(again.data), json.loads(entry.data)
    assert (event.pop("id"), event.pop("replayof")) == (again.id.hex(), original.pop("id"))
    assert event.pop("replayname") == "monday"
    assert event == original
    assert replay(entry.data, "t", "monday").id == again.id, "a repeated replay is the same"
    assert replay(entry.data, "t", "tuesday").id != again.id


def test_a_replay_does_not_replay_itself_nor_what_is_no_event():
    entry = EnvelopeBuilder("tencent", "p1").build(EVENT, "t", 1)
    again = replay(entry.data, "t", "monday")
    assert replay(again.data, "t", "tuesday") is None
    for other in (b"", b"{}", b'{"specversion":"1.0","id":"x"}', b"\xff"):
        assert replay(other, "t", "monday") is give_back(other, "t", "monday") is None


def test_a_dead_letter_is_given_back_as_it_is_and_once_for_each_entry_that_it_was():
    """Also one that was a replay. Its id tells consumers that they have handled it; the dedupe has another one."""
    entry = EnvelopeBuilder("tencent", "p1").build(EVENT, "t", 1)
    for letter in (entry, replay(entry.data, "t", "monday")):
        back = give_back(letter.data, "t", "1-1")
        assert back.data == letter.data
        assert back.id != letter.id
        assert back.id == give_back(letter.data, "t", "1-1").id
        assert back.id != give_back(letter.data, "t", "1-2").id
