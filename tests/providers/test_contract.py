"""What every provider keeps to: tested by its folder of payloads, each with what is expected of it beside it."""

from __future__ import annotations

import json
import tracemalloc
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.events import EnvelopeBuilder, EventType
from receiver.providers import PROVIDERS
from receiver.providers.base import request_of
from receiver.providers.json_items import TooManyItemsError

PAYLOADS = Path(__file__).parents[1] / "payloads"
CASES = [
    pytest.param(name, path, id=f"{name}-{path.stem}")
    for name in PROVIDERS
    for path in sorted((PAYLOADS / name).iterdir())
    if path.with_suffix(".expected.json").exists()
]


def json_of(path):
    """Return what a payload holds for Python, or None where that is nothing or no JSON."""
    try:
        return json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError):
        return None


def wire(value):
    """Return a value as a body."""
    return json.dumps(value).encode()


def parse(name, body, sign_id=None, max_items=10_000):
    """Parse a body as a provider's."""
    return PROVIDERS[name](sign_id=sign_id, max_items=max_items).parse(request_of(body))


JSON_CASES = [case for case in CASES if json_of(case.values[1])]
BODIES = [(name, path.read_bytes()) for name, path in (case.values for case in CASES)]
MOST = 10_000
#: Providers whose callbacks are arrays of items, with a sample report in ``doc_status.json``.
ITEM_ARRAYS = [name for name in PROVIDERS if (PAYLOADS / name / "doc_status.json").exists()]


def sealed(provider, event):
    """Return an event's envelope as it goes into a stream, without the time of receipt."""
    entry = EnvelopeBuilder(provider, "default").build(event, "urn:smn:local:default:any", 1)
    envelope = json.loads(entry.data)
    assert envelope["id"] == entry.id.hex()
    assert envelope.pop("receivedtime") == "1970-01-01T00:00:00.001Z"
    return envelope


def outcome(provider, reading):
    """Return a reading in the form of the files of expectations."""
    return {
        "events": [sealed(provider, event) for event in reading.events],
        "rejections": [
            {"problems": rejection.problems, "data": json.loads(rejection.event.data)}
            for rejection in reading.rejections
        ],
    }


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_has_payloads(name):
    """A provider without payloads is not tested, so there is none."""
    assert list((PAYLOADS / name).glob("*.json"))


@pytest.mark.parametrize(("name", "path"), CASES)
def test_a_payload_gives_what_is_expected_of_it(name, path):
    """Events in the form of the entry in the stream; rejections with their problems and what the quarantine keeps."""
    expected = json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))
    reading = parse(name, path.read_bytes(), expected.pop("sign_id", None), MOST)
    assert outcome(name, reading) == expected


@pytest.mark.parametrize(("name", "path"), CASES)
def test_the_id_is_the_hash_of_project_source_and_data(name, path):
    """Whoever has an event can compute its id again."""
    for event in parse(name, path.read_bytes(), None, MOST).events:
        text = f"default\0/{name}/default\0".encode() + event.data
        assert sealed(name, event)["id"] == blake2b(text, digest_size=16).hexdigest()


@pytest.mark.parametrize(("name", "path"), JSON_CASES)
def test_spaces_and_the_order_of_keys_do_not_change_an_event(name, path):
    """A retry that is written differently is the same item: it has the same id."""
    value = json_of(path)
    events = outcome(name, parse(name, path.read_bytes(), None, MOST))["events"]
    for other in (json.dumps(value, indent=3, sort_keys=True).encode(), wire(_reversed(value))):
        assert outcome(name, parse(name, other, None, MOST))["events"] == events


def _reversed(value):
    if isinstance(value, dict):
        return {key: _reversed(inner) for key, inner in reversed(value.items())}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("name", "path"), JSON_CASES)
def test_both_ways_of_reading_give_the_same_events(name, path):
    """A field that the schema does not know sends an item through marshmallow; but for ``extra`` nothing changes."""
    value = json_of(path)
    items = value if isinstance(value, list) else [value]
    good = [item for item in items if isinstance(item, dict) and parse(name, wire([item]), None, 1).events]
    fast = parse(name, wire(good), "s", MOST)
    slow = parse(name, wire([{**item, "new_field": [1]} for item in good]), "s", MOST)
    assert not slow.rejections
    for one, other in zip(fast.events, slow.events, strict=True):
        data, known = json.loads(other.data), json.loads(one.data)
        assert data["extra"].pop("new_field") == [1]
        assert known | {"extra": known.get("extra", {})} == data
        assert (one.type, one.time) == (other.type, other.time)


@pytest.mark.parametrize(("name", "path"), CASES)
def test_a_bad_item_harms_no_other(name, path):
    """Beside an item that is no item at all, the good ones are the same as without it."""
    body = path.read_bytes().strip()
    reading = parse(name, body, None, MOST)
    if not reading.events or body[:1] != b"[":
        return
    with_bad = parse(name, b'["\\ud800",' + body[1:], None, MOST)
    assert with_bad.events == reading.events
    assert len(with_bad.rejections) == len(reading.rejections) + 1


@given(st.sampled_from(BODIES), st.data())
def test_whatever_a_body_holds_reading_it_does_not_fail(case, data):
    """Bytes are cut out, doubled and changed: there is a reading, and what comes out of it is JSON."""
    name, body = case
    at = data.draw(st.integers(0, len(body)))
    until = data.draw(st.integers(at, min(len(body), at + 40)))
    mutated = body[:at] + data.draw(st.binary(max_size=8)) + body[until:]
    reading = parse(name, mutated, None, MOST)
    for event in reading.events:
        assert sealed(name, event)["type"] == event.type != EventType.REJECTED
    for rejection in reading.rejections:
        assert rejection.problems
        assert sealed(name, rejection.event)["type"] == EventType.REJECTED


@pytest.mark.parametrize("name", ITEM_ARRAYS)
@pytest.mark.parametrize("stem", ["doc_status", "doc_reply"])
def test_a_body_cut_short_anywhere_is_rejected_as_a_whole(name, stem):
    """No prefix of a callback is a callback, and none of them is a failure."""
    body = (PAYLOADS / name / f"{stem}.json").read_bytes()
    for end in range(len(body)):
        reading = parse(name, body[:end], None, MOST)
        assert not reading.events
        assert len(reading.rejections) == 1


@pytest.mark.parametrize("name", ITEM_ARRAYS)
@pytest.mark.parametrize("depth", [30, 100, 500, *range(960, 1010, 3), 5000, 200_000])
def test_nesting_of_any_depth_is_no_failure(name, depth):
    """What cannot be nested that deeply is refused alone, wherever in the stack the reader stands."""
    good = json.loads((PAYLOADS / name / "doc_status.json").read_bytes())[0]
    text = json.dumps(good)[:-1]
    deep = b"[" * depth + b"]" * depth
    body = b"[%b, %b, %b]" % (json.dumps(good).encode(), text.encode() + b',"new":' + deep + b"}", deep)
    reading = parse(name, body, None, MOST)
    assert (len(reading.events), len(reading.rejections)) == ((2, 1) if depth <= 32 else (1, 2))


@pytest.mark.parametrize("name", ITEM_ARRAYS)
def test_five_thousand_items_are_read_both_ways(name):
    """A big batch is no other than a small one; one bad item in it is named by its place."""
    good = json.loads((PAYLOADS / name / "doc_status.json").read_bytes())[0]
    items = [{**good, "sid": f"5000:{number}"} for number in range(5000)]
    fast = parse(name, wire(items), None, MOST)
    slow = parse(name, wire([*items, None]), None, MOST)
    assert (fast.path, slow.path) == ("fast", "slow")
    assert len(set(fast.events)) == 5000
    assert slow.events == fast.events
    assert slow.rejections[0].problems == ["[5000]: expected an object, got null"]


@pytest.mark.parametrize("name", ITEM_ARRAYS)
@pytest.mark.parametrize("more", ["", ",5"])
def test_more_items_than_allowed_are_refused_on_both_ways(name, more):
    """The bound is on items, good or bad."""
    item = json.dumps(json.loads((PAYLOADS / name / "doc_status.json").read_bytes())[0])
    with pytest.raises(TooManyItemsError, match="RECEIVER_MAX_ITEMS"):
        parse(name, f"[{item},{item}{more}]".encode(), None, 1)


@pytest.mark.parametrize("name", ITEM_ARRAYS)
@pytest.mark.parametrize("item", [b"1,", b"{},", b","])
def test_a_million_items_are_refused_before_they_take_memory(name, item):
    """A body of kilobytes can unpack to that."""
    body = b"[" + item * 1_000_000 + b"1]"
    tracemalloc.start()
    try:
        with pytest.raises(TooManyItemsError):
            parse(name, body, None, MOST)
        assert tracemalloc.get_traced_memory()[1] < len(body) + (8 << 20)
    finally:
        tracemalloc.stop()


def batch_of(name, recipients, shared):
    """Return a report about several recipients, who share a text of so many characters."""
    numbers = [f"1415555{number:04}" for number in range(recipients)]
    if name == "sinch":
        status = {"code": 0, "status": "Delivered", "count": recipients, "recipients": numbers}
        report = {
            "type": "delivery_report_sms",
            "batch_id": "b",
            "total_message_count": recipients,
            "statuses": [status],
        }
        return json.dumps({**report, "client_reference": "x" * shared}).encode()
    to = [{"phone_number": f"+{number}", "status": "delivered"} for number in numbers]
    payload = {"id": "m", "from": {"phone_number": "+14155550000"}, "to": to, "tags": ["x" * shared]}
    data = {"event_type": "message.finalized", "occurred_at": "2026-03-01T02:00:03Z", "payload": payload}
    return json.dumps({"data": data}).encode()


@pytest.mark.parametrize("name", ["sinch", "telnyx"])
def test_what_the_recipients_of_a_batch_share_is_copied_within_bounds(name):
    """The longest reference of a full batch has room, and is counted. The copies grow with the square of the body."""
    for shared, path in ((100, "fast" if name == "sinch" else "slow"), (6000, "slow")):
        parsed = parse(name, batch_of(name, 1000, shared), None, MOST)
        assert (len(parsed.events), parsed.path) == (1000, path)
        assert (parsed.copied_bytes > 900 * shared) == (path == "slow")
    attack = batch_of(name, 1000, 60_000)
    tracemalloc.start()
    try:
        with pytest.raises(TooManyItemsError, match="the recipients with what they share"):
            parse(name, attack, None, MOST)
        with pytest.raises(TooManyItemsError, match="RECEIVER_MAX_ITEMS"):
            parse(name, batch_of(name, 1000, 10), None, 999)
        assert len(parse(name, batch_of(name, 1000, 10), None, 1000).events) == 1000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_long_text_is_not_remembered():
    """Values of texts that come again are kept, and a time may be written with any number of blanks."""
    item = json.loads((PAYLOADS / "tencent" / "doc_status.json").read_bytes())[0]
    tracemalloc.start()
    try:
        for blanks in range(100_000, 100_050):
            time = item["user_receive_time"].replace(" ", " " * blanks)
            assert parse("tencent", wire([{**item, "user_receive_time": time}])).path == "fast"
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_answer_differs_between_ack_and_failure(name):
    """A provider tells an ack from a failure by the body alone."""
    provider = PROVIDERS[name]()
    ack, refusal = provider.ack, provider.refuse(503, "OK")
    assert (ack.status, refusal.status) == (200, 503)
    refused = provider.refuse(400, 'a "quoted" 原因').body
    assert not refused or json.loads(refused) is not None


@pytest.mark.parametrize("name", ITEM_ARRAYS)
def test_an_array_of_nothing_but_brackets_is_not_cut_to_its_end(name):
    """4 MiB of them would take two seconds; it is refused as one with too many items is, and nothing is kept of it."""
    for brackets in (b"[" * (4 << 20), b"[[" + b"[]," * 1_390_000 + b"[]]]"):
        with pytest.raises(TooManyItemsError, match="too many brackets and commas for 10000 items"):
            parse(name, brackets)
