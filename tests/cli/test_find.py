"""``receiver find``: a test for each verdict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from messages import QUARANTINE, REPLY, SUCCESS, body, reply, report
from servers import eventually, free_port

from receiver.events import Entry, EnvelopeBuilder, Event, EventType
from receiver.spool.directory import file_of
from receiver.spool.file import SpoolFile, lock_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.conftest import Run
    from redis import Redis
    from servers import Receiver


def _found(run: Run, *arguments: str, returncode: int = 0) -> list[Any]:
    result = run("find", *arguments, "--json")
    assert result.returncode == returncode, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def _entry(sid: str, topic: str = SUCCESS) -> Entry:
    data = json.dumps({"message_id": sid, "mobile": "13800138000", "nation_code": "86"}).encode()
    return EnvelopeBuilder("tencent", "default").build(Event(EventType.SUCCESS, None, data), topic, 1_600_000_000_123)


def _post(service: Receiver, redis: Redis, *callbacks: Any, **entries: int) -> None:
    """Post callbacks, and wait until topics have so many entries: on a busy machine some take the way of the spool."""
    for callback in callbacks:
        assert service.post(body(callback))[0] == 200
    for name, count in entries.items():
        eventually(lambda topic=f"urn:smn:local:default:{name}", n=count: redis.xlen(topic) == n, f"{count} in {name}")


@pytest.fixture
def spool(environ: dict[str, str]) -> Iterator[SpoolFile]:
    """Hold a spool file as a living service does."""
    folder = Path(environ["RECEIVER_DATA_DIR"]) / "spool"
    folder.mkdir(parents=True)
    spool_file = lock_file(file_of(folder, 1), 1 << 30)
    assert spool_file is not None
    yield spool_file
    spool_file.close()


def test_a_published_event_is_found_with_what_each_group_has_done(
    service: Receiver, cli_redis: Redis, run_here: Run
) -> None:
    for group in ("billing", "crm", "audit"):
        cli_redis.xgroup_create(SUCCESS, group, id="0", mkstream=True)
    _post(service, cli_redis, [report("5000:1"), report("5000:2")], sms_success=2)
    cli_redis.xreadgroup("billing", "billing-1", {SUCCESS: ">"})
    ((id_, _), _) = cli_redis.xreadgroup("crm", "crm-1", {SUCCESS: ">"})[0][1]
    assert json.loads(cli_redis.xrange(SUCCESS)[0][1]["data"])["data"]["message_id"] == "5000:1"
    cli_redis.xack(SUCCESS, "crm", id_)
    (found,) = _found(run_here, "5000:1")
    assert (found["verdict"], found["topic_urn"], found["entry_id"]) == ("published", SUCCESS, id_)
    assert found["event"]["data"]["message_id"] == "5000:1"
    states = {group.pop("group"): group for group in found["groups"]}
    assert states["billing"].pop("idle_ms") >= 0
    assert states == {
        "billing": {"state": "pending", "consumer": "billing-1", "deliveries": 1},
        "crm": {"state": "acknowledged", "consumer": None, "idle_ms": None, "deliveries": None},
        "audit": {"state": "not read", "consumer": None, "idle_ms": None, "deliveries": None},
    }
    shown = run_here("find", "5000:1", COLUMNS="40").stdout
    assert f"  topic     {SUCCESS}\n  entry     {id_}\n" in shown, "ids are in one piece whatever the width"
    assert re.search(r"billing  pending with billing-1, idle for \d+s, delivered once\n", shown)
    assert f"  if lost   receiver replay --topic {SUCCESS} --from {id_} --to {id_}\n" in shown
    assert "  fix " not in shown, "billing-1 may be at work"
    cli_redis.xclaim(SUCCESS, "billing", "billing-1", 0, [id_], idle=3_600_000)
    claim = f"  fix       receiver groups claim billing --topic {SUCCESS} --from billing-1 --to CONSUMER"
    assert claim in run_here("find", "5000:1").stdout
    for other in (found["event"]["id"], id_):
        assert [each["entry_id"] for each in _found(run_here, other)] == [id_]
    assert "where the event was to be expected" in run_here("find", id_).stderr, "its digits are read as no number"


def test_all_events_of_a_number_are_found_in_any_spelling(service: Receiver, cli_redis: Redis, run_here: Run) -> None:
    reports = [report("5000:1"), report("5000:2", mobile="13900139000"), report("bad", errmsg=5)]
    _post(service, cli_redis, reports, reply("STOP"), sms_success=2, sms_reply=1, quarantine=1)
    found = _found(run_here, "+86 138-0013-8000")
    assert {each["topic_urn"]: each["verdict"] for each in found} == {
        SUCCESS: "published",
        REPLY: "published",
        QUARANTINE: "quarantined",
    }
    assert len(found) == 3


def test_a_quarantined_item_is_found_with_the_reasons_and_the_next_command(
    service: Receiver, cli_redis: Redis, run_here: Run
) -> None:
    _post(service, cli_redis, [report("good"), report("5000:1", mobile=None)], quarantine=1)
    (found,) = _found(run_here, "5000:1")
    assert (found["verdict"], found["why"]) == ("quarantined", "mobile: Missing data for required field.")
    shown = run_here("find", "5000:1").stdout
    assert f"receiver quarantine show {found['entry_id']} --project default" in shown


def test_a_spooled_event_is_found_in_the_file_of_a_running_service(
    cli_redis: Redis, spool: SpoolFile, run_here: Run
) -> None:
    spool.add([_entry("5000:1"), _entry("5000:2")])
    (found,) = _found(run_here, "5000:1")
    assert (found["verdict"], found["spool_file"], found["entry_id"]) == ("spooled", "001.sqlite", None)
    assert spool.count() == 2
    assert cli_redis.dbsize() == 0


def test_a_spooled_event_whose_topic_has_taken_it_is_a_duplicate(
    service: Receiver, cli_redis: Redis, spool: SpoolFile, run_here: Run
) -> None:
    """As after a lost reply of Redis: the drain will add nothing."""
    _post(service, cli_redis, report("5000:1"), sms_success=1)
    ((_, fields),) = cli_redis.xrange(SUCCESS)
    event = json.loads(fields["data"])
    spool.add([Entry(SUCCESS, bytes.fromhex(event["id"]), fields["data"].encode())])
    assert [each["verdict"] for each in _found(run_here, "5000:1")] == ["duplicate", "published"]


def test_a_trimmed_event_is_known_by_its_id_and_by_the_report_index(
    service: Receiver, cli_redis: Redis, run_here: Run
) -> None:
    _post(service, cli_redis, report("5000:1"), sms_success=1)
    event_id = json.loads(cli_redis.xrange(SUCCESS)[0][1]["data"])["id"]
    assert run_here("index", "rebuild").returncode == 0
    (found,) = _found(run_here, "5000:1")
    assert (found["verdict"], found["report"]["status_desc"]) == ("published", "DELIVRD")
    cli_redis.xtrim(SUCCESS, maxlen=0, approximate=False)
    (found,) = _found(run_here, "5000:1")
    assert (found["verdict"], found["report"]["status_desc"], found["entry_id"]) == ("trimmed", "DELIVRD", None)
    (found,) = _found(run_here, event_id)
    assert (found["verdict"], found["topic_urn"]) == ("trimmed", SUCCESS)


def test_a_message_without_a_callback_is_not_seen(service: Receiver, run_here: Run) -> None:
    path = "/v2/default/notifications/sms/message/5000:1"
    assert service.put(path, json.dumps({"message": "text", "mobile": "13800138000"}).encode()) == 200
    (found,) = _found(run_here, "5000:1", returncode=1)
    assert (found["verdict"], found["report"]["mobile"]) == ("not seen", "13800138000")
    assert "No callback about it has come" in found["why"]
    result = run_here("find", "5000:2")
    assert (result.returncode, result.stdout.startswith("not seen")) == (1, True)
    assert "no spool, because none is in /" in result.stderr


def test_the_report_index_leads_to_an_old_entry_and_since_to_any(cli_redis: Redis, run_here: Run) -> None:
    """Without them, the search ends after a day and says so."""
    seconds, _ = cli_redis.time()
    old = (seconds - 2 * 86400) * 1000
    for at, sid in ((old, "5000:1"), (old + 1, "5000:2")):
        event = json.loads(_entry(sid).data)
        event |= {"time": "2020-09-13T12:26:40Z", "type": "sms_success_event"}
        cli_redis.xadd(SUCCESS, {"data": json.dumps(event, separators=(",", ":"))}, id=f"{at}-0")
    (found,) = _found(run_here, "5000:1", returncode=1)
    assert found["verdict"] == "not seen"
    assert [each["verdict"] for each in _found(run_here, "5000:1", "--since", "3d")] == ["published"]
    assert len(_found(run_here, "13800138000", "--since", "3d")) == 2


def test_an_id_that_cannot_be_one_is_a_sentence(run_here: Run) -> None:
    result = run_here("find", "a\nb")
    assert result.returncode == 2
    assert "printable text in one line" in result.stderr
    assert "choose one of: default" in run_here("find", "x", "--project", "nobody").stderr


def test_while_redis_is_away_the_spool_is_searched(spool: SpoolFile, run_here: Run) -> None:
    spool.add([_entry("5000:1")])
    away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    result = run_here("find", "5000:1", "--json", **away)
    assert (result.returncode, json.loads(result.stdout)["verdict"]) == (0, "spooled")
    assert "cannot be reached" in result.stderr
    assert "Only the spool is searched." in result.stderr
    missing = run_here("find", "5000:2", **away)
    assert (missing.returncode, "Redis is away, so nothing else was searched" in missing.stdout) == (1, True)
