"""``receiver groups``: what is behind, who is stuck, and the three ways to help."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli.conftest import json_lines
from messages import FAIL, REPLY, SUCCESS

from receiver.cli.groups_create import _before
from receiver.lookups.group import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.conftest import Run
    from redis import Redis

DEAD = f"{SUCCESS}_dead"


def _events(redis: Redis, topic: str, *numbers: int, ago: int = 0) -> list[str]:
    """Add events as if they had come so many seconds ago."""
    seconds, micro = redis.time()
    now = seconds * 1000 + micro // 1000 - ago * 1000
    return [
        str(redis.xadd(topic, {"data": json.dumps({"id": f"{n:032x}", "data": {"message_id": str(n)}})}, f"{now}-{n}"))
        for n in numbers
    ]


def _groups(run: Run, *arguments: str) -> dict[tuple[str, str], Any]:
    result = run("groups", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return {(row["topic_urn"], row["group"]): row for row in rows}


@pytest.fixture
def topic(cli_redis: Redis) -> Iterator[str]:
    """Return a topic whose group billing has one entry acknowledged, two pending with a dead consumer, one not read."""
    cli_redis.xgroup_create(SUCCESS, "billing", "0", mkstream=True)
    cli_redis.xgroup_create(SUCCESS, "crm", "0")
    ids = _events(cli_redis, SUCCESS, 1, 2, 3, 4)
    cli_redis.xreadgroup("billing", "host-2", {SUCCESS: ">"}, count=3)
    cli_redis.xack(SUCCESS, "billing", ids[0])
    for consumer in ("host-2", "poison"):
        cli_redis.xclaim(SUCCESS, "billing", consumer, 0, ids[1:2], idle=3_600_000, retrycount=7)
    return SUCCESS


def test_the_table_shows_lag_pending_entries_and_consumers(cli_redis: Redis, topic: str, run_here: Run) -> None:
    billing, crm = (_groups(run_here)[topic, group] for group in ("billing", "crm"))
    assert (billing["lag"], billing["pending"], crm["lag"], crm["pending"]) == (1, 2, 4, 0)
    assert {one["consumer"]: one["pending"] for one in billing["consumers"]} == {"host-2": 1, "poison": 1}
    oldest = billing["oldest"]
    assert (oldest["consumer"], oldest["deliveries"], oldest["idle_ms"] >= 3_600_000) == ("poison", 7, True)
    assert crm["oldest"]["consumer"] is None
    assert not billing["holds_back_trimming"]
    shown = run_here("groups", COLUMNS="40").stdout
    assert topic in shown
    assert f"billing has not acknowledged {oldest['entry_id']}" in shown
    assert f"→ receiver groups dead-letter billing --topic {SUCCESS}" in shown
    assert "Nothing holds back the trimming" in shown


def test_an_entry_whose_consumer_fails_over_and_over_is_named_though_an_older_one_is_pending(
    cli_redis: Redis, topic: str, run_here: Run
) -> None:
    """Each delivery makes it young again, so that nothing would be put aside after the usual time."""
    failing = _groups(run_here)[topic, "billing"]["failing"]["entry_id"]
    (third,) = cli_redis.xpending_range(topic, "billing", f"({failing}", "+", 1)
    older, failing = failing, str(third["message_id"])
    cli_redis.xclaim(topic, "billing", "gone", 0, [older], idle=3_600_000, retrycount=1)
    cli_redis.xclaim(topic, "billing", "host-2", 0, [failing], idle=3_000, retrycount=11)
    found = _groups(run_here)[topic, "billing"]
    assert (found["oldest"]["entry_id"], found["failing"]["entry_id"]) == (older, failing)
    shown = run_here("groups").stdout
    assert f"→ receiver groups claim billing --topic {SUCCESS} --from gone --to CONSUMER" in shown
    assert f"billing has not acknowledged {failing}" in shown
    assert f"→ receiver groups dead-letter billing --topic {SUCCESS} --min-idle 0s" in shown
    arguments = ("groups", "dead-letter", "billing", "--topic", "sms_success", "--yes")
    assert "1 entry was delivered within the last 1 minute: see --min-idle." in run_here(*arguments).stderr
    assert "1 entry put aside" in run_here(*arguments, "--min-idle", "0s").stdout


def test_what_holds_back_the_trimming_is_named_with_the_entry(cli_redis: Redis, run_here: Run) -> None:
    for group in ("billing", "crm"):
        cli_redis.xgroup_create(SUCCESS, group, "0", mkstream=True)
    old, _ = _events(cli_redis, SUCCESS, 1, 2, ago=4 * 86400)
    _events(cli_redis, SUCCESS, 3)
    cli_redis.xreadgroup("crm", "crm-1", {SUCCESS: ">"}, noack=True)
    found = {group: row["holds_back_trimming"] for (_, group), row in _groups(run_here).items()}
    assert found == {"billing": True, "crm": False}
    shown = run_here("groups", "--topic", "sms_success").stdout
    assert f"billing has not acknowledged {old} of {SUCCESS}, 4d old, which it has not read." in shown
    assert "It holds back the trimming of the topic." in shown


def test_claim_gives_stuck_entries_to_another_consumer(cli_redis: Redis, topic: str, run_here: Run) -> None:
    stuck = _groups(run_here)[topic, "billing"]["oldest"]["entry_id"]
    arguments = ("groups", "claim", "billing", "--to", "host-1")
    assert "1 entry to give to host-1" in run_here(*arguments, "--dry-run").stdout
    assert "No entry is stuck so long" in run_here(*arguments, "--from", "host-2").stdout
    told = run_here(*arguments, "--from", "poison").stdout
    assert f"{topic}  1 entry given to host-1." in told
    assert "host-1 finds them among its pending entries (XREADGROUP with id 0)" in told
    (claimed,) = cli_redis.xpending_range(topic, "billing", stuck, stuck, 1)
    assert (claimed["consumer"], claimed["times_delivered"]) == ("host-1", 7)
    assert "1 entry given to host-1" in run_here(*arguments, "--min-idle", "0s").stdout
    assert cli_redis.xreadgroup("billing", "host-1", {topic: "0"})[0][1][0][0] == stuck
    missing = run_here("groups", "claim", "nobody", "--to", "x")
    assert (missing.returncode, "no topic has a consumer group nobody" in missing.stderr) == (2, True)


def test_dead_letters_have_the_entry_and_where_it_comes_from(cli_redis: Redis, topic: str, run_here: Run) -> None:
    stuck = _groups(run_here)[topic, "billing"]["oldest"]["entry_id"]
    arguments = ("groups", "dead-letter", "billing", "--reason", "no such order")
    assert "1 entry to put aside" in run_here(*arguments, "--dry-run").stdout
    asked = run_here(*arguments, stdin="n\n")
    assert "Move 1 entry of group billing to the dead letters?" in asked.stderr
    assert (asked.returncode, cli_redis.exists(DEAD)) == (1, 0)
    assert f"{topic}  1 entry put aside." in run_here(*arguments, "--yes").stdout
    ((_, fields),) = cli_redis.xrange(DEAD)
    assert json.loads(fields.pop("data"))["id"] == f"{2:032x}"
    assert fields == {
        "reason": "no such order",
        "topic": topic,
        "entry": stuck,
        "group": "billing",
        "consumer": "poison",
        "deliveries": "7",
    }
    assert cli_redis.xpending_range(topic, "billing", stuck, stuck, 1) == []
    assert {one["name"] for one in cli_redis.xinfo_consumers(topic, "billing")} == {"host-2", "poison"}
    assert f"{DEAD} has 1 dead letter." in run_here("groups").stdout
    assert "No entry is stuck so long" in run_here(*arguments, "--yes").stdout
    assert cli_redis.xlen(DEAD) == 1


def test_find_tells_of_a_dead_letter_and_of_the_entry_it_was(cli_redis: Redis, run_here: Run) -> None:
    cli_redis.xgroup_create(SUCCESS, "billing", "0", mkstream=True)
    event = {"id": "0" * 32, "type": "sms_success_event", "source": "/tencent/default", "data": {"message_id": "m"}}
    id_ = str(cli_redis.xadd(SUCCESS, {"data": json.dumps(event, separators=(",", ":"))}))
    cli_redis.xreadgroup("billing", "host-1", {SUCCESS: ">"})
    assert (
        run_here("groups", "dead-letter", "billing", "--deliveries", "1", "--min-idle", "0s", "--yes").returncode == 0
    )
    found = {row["verdict"]: row for row in map(json.loads, run_here("find", "m", "--json").stdout.splitlines())}
    assert found["published"]["groups"][0]["state"] == "acknowledged"
    assert (
        f"Put aside for group billing, as entry {id_} of {SUCCESS}, after deliveries: 1."
        in found["dead-lettered"]["why"]
    )


@pytest.mark.parametrize("added", [False, True])
def test_a_dead_letter_that_was_interrupted_goes_on_and_is_not_doubled(
    cli_redis: Redis, topic: str, run_here: Run, *, added: bool
) -> None:
    """The command was killed after the claim, before or after the entry was added; nobody has acknowledged it."""
    stuck = _groups(run_here)[topic, "billing"]["oldest"]["entry_id"]
    arguments = ("groups", "dead-letter", "billing", "--deliveries", "7", "--yes")
    if added:
        assert run_here(*arguments).returncode == 0
    else:
        cli_redis.xack(topic, "billing", stuck)
    # As if the acknowledgement had not been sent.
    cli_redis.xclaim(topic, "billing", "receiver-dead-letters", 0, [stuck], force=True, retrycount=7)
    assert f"{topic}  1 entry put aside." in run_here(*arguments).stdout
    assert cli_redis.xlen(DEAD) == 1
    assert cli_redis.xpending_range(topic, "billing", stuck, stuck, 1) == []


def test_dead_letters_are_listed_and_dropped(cli_redis: Redis, topic: str, run_here: Run) -> None:
    assert run_here("dead-letters", "list").stdout == "There are no dead letters of project default.\n"
    put_aside = ("groups", "dead-letter", "billing", "--deliveries", "1", "--min-idle", "0s", "--yes")
    assert f"{topic}  2 entries put aside." in run_here(*put_aside, "--reason", "no such order").stdout
    garbage = cli_redis.xadd(DEAD, {"data": "no event"})
    shown = run_here("dead-letters", "list", "--limit", "2").stdout
    assert "no such order" in shown
    assert "2 of 3" in shown
    listed = [json.loads(line) for line in run_here("dead-letters", "list", "--json").stdout.splitlines()]
    assert [one["topic_urn"] for one in listed] == [DEAD] * 3
    assert [listed[0][name] for name in ("entry_id", "group", "deliveries", "event")] == [garbage, None, None, None]
    origin = [listed[1][name] for name in ("group", "reason", "original_topic_urn")]
    assert origin == ["billing", "no such order", topic]
    assert {one["deliveries"] for one in listed[1:]} == {1, 7}
    some = run_here("dead-letters", "drop", garbage, "1-1", "--yes")
    assert (some.returncode, some.stdout) == (1, "1 dead letter deleted.\n")
    for arguments in (("drop",), ("drop", "--all"), ("drop", "x")):
        assert run_here("dead-letters", *arguments, "--yes").returncode == 2
    asked = run_here("dead-letters", "drop", "--topic", "sms_success", "--all", stdin="n\n")
    assert "Delete 2 dead letters for good?" in asked.stderr
    assert (asked.returncode, cli_redis.xlen(DEAD)) == (1, 2)
    assert "2 dead letters deleted." in run_here("dead-letters", "drop", "--topic", DEAD, "--all", "--yes").stdout
    assert cli_redis.xlen(DEAD) == 0
    assert run_here("dead-letters", "drop", "--topic", "sms_success", "--all", "--yes").returncode == 2


def test_an_entry_that_somebody_works_on_is_left_alone(cli_redis: Redis, topic: str, run_here: Run) -> None:
    run_here("groups", "dead-letter", "billing", "--deliveries", "1", "--yes")
    assert cli_redis.xlen(DEAD) == 1, "the other entry was delivered a moment ago"


def test_a_new_group_begins_with_the_events_of_yesterday(cli_redis: Redis, run_here: Run, tmp_path: Path) -> None:
    cli_redis.xgroup_create(SUCCESS, "keeps", "0", mkstream=True)
    _events(cli_redis, SUCCESS, 1, ago=2 * 86400)
    (first,) = _events(cli_redis, SUCCESS, 2, ago=3600)
    _events(cli_redis, SUCCESS, 3)
    result = run_here("groups", "create", "crm", "--since", "24h", "--all-topics")
    assert f"{SUCCESS}  begins with {first} of " in result.stdout
    assert f"{REPLY}  begins with the next event: there is none since then" in result.stdout
    ((_, entries),) = cli_redis.xreadgroup("crm", "one", {SUCCESS: ">"})
    assert len(entries) == 2
    again = run_here("groups", "create", "crm", "--since", "24h", "--all-topics")
    assert (again.returncode, "--reset moves it" in again.stderr) == (2, True)
    asked = run_here("groups", "create", "crm", "--from-start", "--all-topics", "--reset", stdin="n\n")
    assert (asked.returncode, "Move the group crm of 3 topics?" in asked.stderr) == (1, True)
    assert run_here("groups", "create", "crm", "--from-start", "--all-topics", "--reset", "--yes").returncode == 0
    assert len(cli_redis.xreadgroup("crm", "one", {SUCCESS: ">"})[0][1]) == 3
    assert run_here("groups", "create", "now", "--from-now", "--topic", SUCCESS).stdout.endswith("the next event\n")
    (tmp_path / "two.toml").write_text("[projects.shop]\ndefault = true\n[projects.bank]\n")
    config = {"RECEIVER_CONFIG": str(tmp_path / "two.toml")}
    both = run_here("groups", "create", "new", "--from-now", "--topic", "sms_success", **config)
    assert "the projects bank, shop have this topic: choose one with --project" in both.stderr
    one = run_here("groups", "create", "new", "--from-now", "--topic", "sms_success", "--project", "bank", **config)
    assert one.stdout == "urn:smn:local:bank:sms_success  begins with the next event\n"
    assert run_here("groups", "create", "crm", "--all-topics").returncode == 2
    unnamed = run_here("groups", "create", "other", "--since", "24h")
    assert (unnamed.returncode, "name each topic that the group reads" in unnamed.stderr) == (2, True)


def test_mistakes_are_sentences_that_name_what_there_is(cli_redis: Redis, run_here: Run) -> None:
    assert "choose one of: urn:smn:local:default:sms_success," in run_here("groups", "--topic", "nothing").stderr
    assert "No topic of project default has a consumer group." in run_here("groups").stdout
    cli_redis.set(SUCCESS, "in the way")
    cli_redis.xgroup_create(FAIL, "billing", "0", mkstream=True)
    result = run_here("groups")
    assert (result.returncode, f"{FAIL} " in result.stdout) == (2, True)
    assert f"the key of {SUCCESS} holds no stream: `receiver check` has the fix" in result.stderr


def test_a_dead_letter_that_is_put_aside_again_has_each_field_once(cli_redis: Redis, topic: str, run_here: Run) -> None:
    run_here("groups", "dead-letter", "billing", "--reason", "first", "--yes")
    cli_redis.xgroup_create(DEAD, "billing", "0")
    cli_redis.xreadgroup("billing", "poison", {DEAD: ">"})
    arguments = ("groups", "dead-letter", "billing", "--topic", DEAD, "--deliveries", "1", "--min-idle", "0s", "--yes")
    assert "1 entry put aside" in run_here(*arguments, "--reason", "second").stdout
    ((_, flat),) = cli_redis.eval("return redis.call('XRANGE', KEYS[1], '-', '+')", 1, f"{DEAD}_dead")
    names = flat[::2]
    assert len(names) == len(set(names))
    fields = dict(zip(names, flat[1::2], strict=True))
    assert (fields["reason"], fields["topic"]) == ("second", DEAD), f"where it was last, not {topic}"


def test_a_group_begins_with_the_first_entry_of_its_millisecond() -> None:
    """A group reads what is behind its id, so that is the last one of the millisecond before."""
    assert _before(1795258820220) == f"1795258820219-{2**64 - 1}"
    assert (_before(0), _before(-5)) == ("0", "0")


def test_the_report_index_goes_with_its_groups_and_keys(cli_redis: Redis, run_here: Run) -> None:
    """Also on a topic that nothing is routed to any more. What is no index of this service stays."""
    former = "urn:smn:local:default:before.7"
    for stream in (SUCCESS, former):
        _events(cli_redis, stream, 1)
        for group in (GROUP, "billing"):
            cli_redis.xgroup_create(stream, group, "0")
    kept = {"lookups:counts", "{lookup}", SUCCESS, former}
    cli_redis.mset({"{lookup}": "x", "lookups:counts": "x", "lookups:projects": "x"})
    cli_redis.mset({f"{{lookups:{project}}}:r:{n}": "x" for project in ("a", "b") for n in range(1500)})
    cli_redis.xreadgroup(GROUP, "indexer-1", {former: ">"})
    refused = run_here("index", "drop", "--yes")
    assert refused.returncode == 2
    assert f"an index runs: indexer-1 has read {former}" in refused.stderr
    assert "RECEIVER_INDEX=0" in refused.stderr
    cli_redis.xgroup_delconsumer(former, GROUP, "indexer-1")
    asked = run_here("index", "drop", stdin="n\n")
    assert (asked.returncode, "its group on 2 streams" in asked.stderr) == (1, True)
    (told,) = json_lines(run_here("index", "drop", "--yes", "--json"))
    assert (sorted(told["stream_keys"]), told["keys"]) == (sorted([SUCCESS, former]), 3001)
    assert {one["name"] for stream in (SUCCESS, former) for one in cli_redis.xinfo_groups(stream)} == {"billing"}
    left = set(cli_redis.scan_iter(count=1000))
    assert {key for key in left if not key.endswith(":trimmer")} == kept  # the service of other tests trims here, too
    assert run_here("index", "drop", "--yes").stdout == "0 keys deleted.\n"
