"""One topic over several streams: which stream an event goes to, and how the streams spread over a cluster."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import messages
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from smn import PROJECT, Smn

from receiver.events import Event, EventType, encode
from receiver.partitions import MAX_STREAMS, SUFFIXES, Change, Partitions, number
from receiver.projects import Project
from receiver.routing import TOPIC_URN, Routing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis.asyncio
    from conftest import Service

TOPIC = "urn:smn:local:default:sms_success"
TIME = "2026-12-01T00:00:00Z"


def event(mobile: str | None = "13800138000", nation_code: str = "86", time: str | None = TIME, **more: Any) -> Event:
    """Return an event of a person."""
    data = {"nation_code": nation_code, **({} if mobile is None else {"mobile": mobile})}
    return Event(EventType.SUCCESS, time, encode(data), **more)  # type: ignore[arg-type]


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}", fullmatch=True), nodes=st.integers(2, 32))
def test_the_streams_of_any_topic_spread_within_one_of_even_over_any_number_of_nodes(name, nodes):
    """Nodes hold ranges of equal size, as ``redis-cli --cluster create`` makes them."""
    names = [f"urn:smn:cn-north-4:p1:{name}{suffix}" for suffix in SUFFIXES]
    for streams in (2, 4, 8, 16, 32, 64):
        held = Counter(key_slot(key.encode()) * nodes // REDIS_CLUSTER_HASH_SLOTS for key in names[:streams])
        counts = [held[node] for node in range(nodes)]
        assert max(counts) - min(counts) <= 1


def test_no_topic_has_the_name_of_a_partition():
    """So a route cannot lead into one."""
    assert len(set(SUFFIXES)) == MAX_STREAMS
    assert not any(TOPIC_URN.fullmatch(TOPIC + suffix) for suffix in SUFFIXES)


@pytest.mark.parametrize(
    ("mobile", "nation_code", "stream"),
    [("13800138000", "86", ".01ems"), ("+13105550100", "1", ".03fnx"), ("07700 900123", "44", ".03fnx")],
)
def test_the_partition_of_a_number_never_changes(mobile, nation_code, stream):
    """Another release would add events a second time."""
    assert Partitions([Change("", 8)]).stream_of(TOPIC, event(mobile, nation_code)) == TOPIC + stream


@pytest.mark.parametrize("mobile", ["13800138000", "+8613800138000", "008613800138000", "+86 138-0013-8000"])
def test_a_person_has_one_partition_with_a_plus_or_with_the_nation_code_apart(mobile):
    """So replies and the reports of another provider stay in order."""
    assert number("86", mobile) == number("+86", mobile) == "8613800138000"


@pytest.mark.parametrize(
    "unpartitioned",
    [event(time=None), event(mobile=None), event(mobile=""), event(identity=b"differs between retries")],
    ids=["without a time", "without a number", "with an empty number", "whose time may differ between retries"],
)
def test_an_event_stays_in_the_topic_itself(unpartitioned):
    """The function has nothing to work with, or not always the same."""
    assert Partitions([Change("", 64)]).stream_of(TOPIC, unpartitioned) == TOPIC


def test_the_time_of_the_event_decides_on_the_number_of_streams():
    """So a retry finds the stream that the first attempt went to, whatever the configuration says today."""
    changes = [Change("2026-12-01T00:00:00Z", 4), Change("2027-01-01T00:00:00Z", 8), Change("2028-01-01T00:00:00Z", 1)]
    partitions = Partitions(changes)

    def streams(time: str) -> set[str]:
        return {partitions.stream_of(TOPIC, event(f"138{i:08}", time=time)) for i in range(500)}

    assert streams("2026-11-30T23:59:59Z") == {TOPIC}
    assert streams("2026-12-01T00:00:00Z") == {TOPIC + suffix for suffix in SUFFIXES[:4]}
    assert streams("2027-06-01T00:00:00Z") == {TOPIC + suffix for suffix in SUFFIXES[:8]}
    assert streams("2028-01-01T00:00:00Z") == {TOPIC}
    assert partitions.streams(TOPIC) == (TOPIC, *(TOPIC + suffix for suffix in SUFFIXES[:8]))


def test_all_streams_of_a_partitioned_topic_are_trimmed_indexed_and_have_groups():
    """Under every route that they may have."""
    partitions = {"sms_success_event": Partitions([Change("", 2)])}
    routing = Routing([Project(id="default", partitions=partitions)])
    streams = [TOPIC, TOPIC + SUFFIXES[0], TOPIC + SUFFIXES[1]]
    topics = routing.topics({"default": ("billing",)})
    assert [topic for topic in topics if topic.startswith(TOPIC)] == streams
    assert {topics[stream] for stream in streams} == {("billing",)}
    assert set(streams) <= routing.routed_topics()
    assert set(streams) <= set(routing.event_topics())


def config(changes: str) -> str:
    """Return a project whose successes are partitioned."""
    return (
        f'[projects.{PROJECT}]\ncallback_keys = ["callback-key"]\ntokens = ["static-token"]\n'
        f"[projects.{PROJECT}.partitions]\nsms_success_event = [{changes}]\n"
    )


async def post(client: Any, reports: Sequence[dict[str, Any]]) -> None:
    """Have reports acknowledged."""
    response = await client.post("/sms/callback?key=callback-key", json=reports)
    assert (response.status, await response.json()) == (200, messages.OK)


async def test_a_change_of_the_partitions_doubles_no_retry(service: Service, redis: redis.asyncio.Redis) -> None:
    """Consumers learn the streams from ListSmsEvent; the lookups find the reports of all of them."""
    before = [messages.report(f"a{i}", mobile=f"138{i:08}") for i in range(20)]
    after = [messages.report(f"b{i}", mobile=f"138{i:08}", user_receive_time="2026-12-01 08:00:00") for i in range(20)]
    client = await service(config(""" { streams = 2 } """))
    await post(client, before)
    client = await service(config(""" { streams = 2 }, { since = 2026-12-01T08:00:00+08:00, streams = 4 } """))
    await post(client, before)
    await post(client, after)
    _, listed = await Smn(client)("GET", "/callback?event_type=sms_success_event")
    [route] = listed["callback"]
    topic = route["topic_urn"]
    assert route["stream_keys"] == [topic, *(topic + suffix for suffix in SUFFIXES[:4])]
    ids = {
        stream: [event["data"]["message_id"] for event in await messages.events(redis, stream)]
        for stream in route["stream_keys"]
    }
    assert not ids[topic]
    assert all(ids[stream] for stream in route["stream_keys"][1:])
    assert sorted(one for stream in ids.values() for one in stream) == sorted(r["sid"] for r in before + after)
    assert not {one for stream in route["stream_keys"][3:] for one in ids[stream]} & {r["sid"] for r in before}
