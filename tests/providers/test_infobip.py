"""A list of items inside of an object: what the samples cannot say of it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from receiver.providers.base import request_of
from receiver.providers.infobip import Infobip
from receiver.providers.json_items import TooManyItemsError

SAMPLES = json.loads((Path(__file__).parents[1] / "payloads" / "infobip" / "samples.json").read_text(encoding="utf-8"))
BODY = SAMPLES[0]["body"].encode()
ITEM = BODY[len(b'{"results":[') : BODY.index(b',{"bulkId"')]


def parse(body, max_items=10_000):
    """Parse a body."""
    return Infobip(max_items=max_items).parse(request_of(body))


def test_a_rejected_result_is_named_by_its_place_and_kept_as_received():
    bad = b'{ "messageId" : 5,"status":{"groupName":"DELIVERED" } }'
    parsed = parse(b'{"results":[%b,%b]}' % (ITEM, bad))
    assert len(parsed.events) == 1
    assert parsed.rejections[0].problems == ["results[1].messageId: Not a valid string."]
    assert json.loads(parsed.rejections[0].event.data)["item"].encode() == bad


def test_a_body_cut_short_anywhere_is_rejected_as_a_whole():
    for end in range(len(BODY)):
        parsed = parse(BODY[:end])
        assert not parsed.events
        assert len(parsed.rejections) == 1


@pytest.mark.parametrize("rest", [b"", b',"pendingMessageCount":0', b',"new":{"results":[5]}'])
@pytest.mark.parametrize("before", [b"", b'"new":[{"results":[]}],'])
@pytest.mark.parametrize("bad", [b'"\\ud800"', b"NaN", b'"line\nbreak"', b"[" * 2000 + b"]" * 2000])
def test_what_cannot_be_decoded_harms_no_other_wherever_the_list_is(rest, before, bad):
    parsed = parse(b'{%b"results" : [%b , %b]%b}' % (before, bad, ITEM, rest))
    assert len(parsed.events) == 1
    assert [json.loads(each.event.data)["item"].encode() for each in parsed.rejections] == [bad]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"results":[NaN]', "not JSON: the object has no end"),
        (b'{"results":[NaN]}}', "not JSON: extra data after the object"),
        (b'{"results":[NaN]]', "not JSON: unexpected ] at offset 16"),
        (b'{"results":{"a":5}}', "results: neither a report"),
        (b'{"results":null}', "expected an array or an object"),
    ],
)
def test_what_is_wrong_with_the_object_is_said(body, problem):
    assert parse(body).rejections[0].problems[0].startswith(problem)


@pytest.mark.parametrize("more", [b"", b",5"])
def test_more_results_than_allowed_are_refused_on_both_paths(more):
    with pytest.raises(TooManyItemsError):
        parse(b'{"results":[%b,%b%b]}' % (ITEM, ITEM, more), 1)


@pytest.mark.parametrize(("item", "count"), [(b"1,", 1_000_000), (b"{},", 1_000_000), (b"NaN,", 300_000)])
def test_hundreds_of_thousands_of_results_are_refused_before_they_take_memory(item, count):
    body = b'{"results":[' + item * count + b"1]}"
    tracemalloc.start()
    try:
        with pytest.raises(TooManyItemsError):
            parse(body)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body) + (8 << 20)
    finally:
        tracemalloc.stop()


def test_two_thousand_results_are_parsed_fast():
    """As many as a profile may ask for in one list."""
    items = [{**json.loads(ITEM), "messageId": str(number)} for number in range(2000)]
    parsed = parse(json.dumps({"results": items}).encode())
    assert (parsed.path, len(set(parsed.events))) == ("fast", 2000)
