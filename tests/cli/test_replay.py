"""``receiver replay``: past events again, none of them twice."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from messages import FAIL, QUARANTINE, SUCCESS
from servers import eventually

from receiver.errors import AWAY, MOVED, WriteFailedError
from receiver.events import EnvelopeBuilder, Event, EventType
from receiver.streams.replay import Pace, Range, publish

if TYPE_CHECKING:
    from cli.conftest import Run, Start
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

    from receiver.events import Entry

ALL = ("--from", "start", "--yes")


def _add(redis: Redis, count: int, topic: str = SUCCESS) -> None:
    """Add events that are different in each topic."""
    builder = EnvelopeBuilder("tencent", topic.rpartition(":")[2])
    made = [builder.build(Event(EventType.SUCCESS, None, b'{"message_id":"%d"}' % n), topic, 1) for n in range(count)]
    with redis.pipeline() as pipe:
        for entry in made:
            pipe.xadd(topic, {"data": entry.data})
        pipe.execute()


def _events(redis: Redis, topic: str) -> list[Any]:
    return [json.loads(fields["data"]) for _, fields in redis.xrange(topic)]


def test_events_are_published_again_once_under_a_name(cli_redis: Redis, run_here: Run) -> None:
    _add(cli_redis, 450)
    arguments = ("replay", "--topic", "sms_success", "--from", "start")
    counted = run_here(*arguments, "--dry-run")
    assert (counted.stdout, cli_redis.xlen(SUCCESS)) == ("450 events.\n", 450)
    asked = run_here(*arguments, "--name", "monday", stdin="n\n")
    assert "Publish 450 events again, as replay monday?" in asked.stderr
    assert (asked.returncode, cli_redis.xlen(SUCCESS)) == (1, 450)
    assert "450 events added." in run_here(*arguments, "--name", "monday", "--rate", "1000000", "--yes").stdout
    originals, replays = _events(cli_redis, SUCCESS)[:450], _events(cli_redis, SUCCESS)[450:]
    assert [event["replayof"] for event in replays] == [event["id"] for event in originals]
    assert {event["replayname"] for event in replays} == {"monday"}
    assert len({event["id"] for event in originals + replays}) == 900
    assert "0 events added." in run_here(*arguments, "--name", "monday", "--yes").stdout
    assert "450 events added." in run_here(*arguments, "--name", "tuesday", "--rate", "1000000", "--yes").stdout
    assert cli_redis.xlen(SUCCESS) == 3 * 450, "replays are not replayed"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_replay_that_is_repeated_adds_no_event_twice(
    cli_redis: Redis, start: Start, run_here: Run, number: signal.Signals
) -> None:
    _add(cli_redis, 500)
    arguments = ("replay", "--topic", "sms_success", *ALL, "--name", "monday")
    process = start(*arguments, "--rate", "20")  # would take 25 s
    eventually(lambda: cli_redis.xlen(SUCCESS) > 505, "some events were published again", 30)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert 505 < cli_redis.xlen(SUCCESS) < 1000
    if number == signal.SIGINT:
        assert "Repeat the command with --name monday to go on" in told
    assert "Traceback" not in told
    assert run_here(*arguments, "--rate", "100000").returncode == 0
    replays = _events(cli_redis, SUCCESS)[500:]
    assert len(replays) == len({event["replayof"] for event in replays}) == 500


def test_a_range_is_chosen_by_times_or_entries(cli_redis: Redis, run_here: Run) -> None:
    ids = [
        str(cli_redis.xadd(SUCCESS, {"data": EnvelopeBuilder("tencent", "default").build(one, SUCCESS, 1).data}, id_))
        for id_, one in (
            (f"{1_600_000_000_000 + 3_600_000 * n}-0", Event(EventType.SUCCESS, None, b'{"message_id":"%d"}' % n))
            for n in range(3)
        )
    ]  # at 12:26:40, 13:26:40 and 14:26:40 UTC
    for first, last, count in (
        (ids[1], ids[1], 1),
        ("2020-09-13T12:26:40Z", "2020-09-13T13:26:40Z", 2),
        ("2020-09-13 13:00", "2020-09-13 15:00", 2),  # local time: TZ is UTC
        ("start", "24h", 3),
        ("24h", "0s", 0),
    ):
        result = run_here("replay", "--topic", SUCCESS, "--from", first, "--to", last, "--dry-run")
        assert result.stdout == f"{count:,} event{'s' * (count != 1)}.\n", (first, last, result.stderr)


def test_events_go_to_another_topic_which_is_then_looked_after(cli_redis: Redis, run_here: Run) -> None:
    _add(cli_redis, 3)
    _add(cli_redis, 2, FAIL)
    arguments = ("replay", "--topic", "sms_success", "--topic", "sms_fail", *ALL, "--to-topic", "again")
    assert "5 events added." in run_here(*arguments).stdout
    topic = "urn:smn:local:default:again"
    assert len(_events(cli_redis, topic)) == 5
    assert (cli_redis.xlen(SUCCESS), cli_redis.xlen(FAIL)) == (3, 2)
    assert cli_redis.smembers("{lookups:default}:topics") == {topic}
    cli_redis.xgroup_create(topic, "tests", "0")
    assert f'"topic_urn":"{topic}"' in run_here("groups", "--json").stdout


def test_dead_letters_go_back_to_their_topic_under_their_ids(cli_redis: Redis, run_here: Run) -> None:
    """Also one that was a replay; one that two groups had put aside, once; and one that fails again, again.

    They leave the dead letters, so that no later command gives them back once more.
    """
    _add(cli_redis, 2)
    run_here("replay", "--topic", "sms_success", *ALL, "--name", "first")
    for group in ("billing", "crm"):
        cli_redis.xgroup_create(SUCCESS, group, "0")
        cli_redis.xreadgroup(group, "one", {SUCCESS: ">"})
        run_here("groups", "dead-letter", group, "--deliveries", "1", "--min-idle", "0s", "--yes")
    assert cli_redis.xlen(f"{SUCCESS}_dead") == 8
    garbage = cli_redis.xadd(f"{SUCCESS}_dead", {"data": "no event"})
    arguments = ("replay", "--topic", "sms_success_dead", *ALL)
    elsewhere = run_here(*arguments, "--to-topic", "trial", "--name", "trial").stdout
    assert ("4 events added." in elsewhere, cli_redis.xlen(f"{SUCCESS}_dead")) == (True, 9)
    assert "4 events added." in run_here(*arguments).stdout
    assert [id_ for id_, _ in cli_redis.xrange(f"{SUCCESS}_dead")] == [garbage]
    assert "0 events added." in run_here(*arguments).stdout
    before, back = _events(cli_redis, SUCCESS)[:4], _events(cli_redis, SUCCESS)[4:]
    assert back == before
    cli_redis.xreadgroup("billing", "one", {SUCCESS: ">"})
    run_here("groups", "dead-letter", "billing", "--deliveries", "1", "--min-idle", "0s", "--yes")
    assert "4 events added." in run_here(*arguments).stdout
    assert len(_events(cli_redis, SUCCESS)) == 12


def test_mistakes_are_sentences(cli_redis: Redis, run_here: Run) -> None:
    _add(cli_redis, 1)
    topic = ("replay", "--topic", "sms_success", *ALL)
    for arguments, said in (
        (("replay", "--topic", "nothing", *ALL), "there is no topic 'nothing'; choose one of"),
        (("replay", "--topic", "sms_success", "--from", "yesterday"), "'yesterday' is not a time; write 24h (ago)"),
        (("replay", "--topic", "sms_fail", *ALL), "there is no event in this range"),
        ((*topic, "--to-topic", QUARANTINE), "is the quarantine"),
        ((*topic, "--to-topic", "sms_success_dead"), "is for dead letters"),
        ((*topic, "--to-topic", "urn:smn:local:other:x"), "belongs to project other"),
        ((*topic, "--name", "a b"), "letters, digits"),
    ):
        result = run_here(*arguments)
        assert (result.returncode, said in result.stderr) == (2, True), (arguments, result.stderr)
    assert cli_redis.xlen(SUCCESS) == 1


def test_a_topic_that_takes_nothing_ends_the_replay_with_the_reason(cli_redis: Redis, run_here: Run) -> None:
    _add(cli_redis, 1)
    cli_redis.set(FAIL, "in the way")
    result = run_here("replay", "--topic", "sms_success", *ALL, "--to-topic", "sms_fail")
    assert result.returncode == 2
    assert "WRONGTYPE" in result.stderr


@pytest.mark.parametrize("reason", [AWAY, MOVED, "TryAgain"])
async def test_a_shard_that_is_away_for_a_moment_is_waited_for(redis: AsyncRedis, reason: str) -> None:
    """Of a cluster that takes other topics the write returns the topics that failed."""
    event = EnvelopeBuilder("tencent", "p").build(Event(EventType.SUCCESS, None, b'{"message_id":"1"}'), SUCCESS, 1)
    entry_id = await redis.xadd(SUCCESS, {"data": event.data})
    written: list[list[Entry]] = []

    async def write(entries: list[Entry]) -> dict[str, WriteFailedError]:
        written.append(entries)
        return {SUCCESS: WriteFailedError(reason, "not now", SUCCESS)} if len(written) == 1 else {}

    part = Range(SUCCESS, "-", entry_id.decode(), SUCCESS)
    assert [done async for done in publish(redis, part, "monday", Pace(None), write)] == [1]
    assert len(written) == 2
    assert written[0] == written[1]
