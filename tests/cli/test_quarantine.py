"""``receiver quarantine``."""

from __future__ import annotations

import json
import os
import pty
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from messages import QUARANTINE, REPLY, SUCCESS, body, report

from receiver.cli.quarantine_store import REFUSED, RetryResult
from receiver.cli.retry_progress import RetryProgress
from receiver.events import EnvelopeBuilder, Event, EventType
from receiver.projects import Project
from receiver.providers.base import CallbackRequest, Reason, Rejection
from receiver.providers.forms import raw_of
from receiver.routing import ProjectRoutes

if TYPE_CHECKING:
    from cli.conftest import Run
    from redis import Redis
    from servers import Receiver

PAYLOADS = Path(__file__).parents[1] / "payloads"
_RECEIVED = 1_600_000_000_123


def _quarantined(redis: Redis, *items: bytes, provider: str = "tencent") -> list[str]:
    """Quarantine items as an older version might have, whose schema was stricter."""
    seal = EnvelopeBuilder(provider, "default").build
    events: list[Event] = [Rejection.of("", [Reason("sid", "Too long.")], item).event for item in items]
    assert all(event.type == EventType.REJECTED for event in events)
    return [str(redis.xadd(QUARANTINE, {"data": seal(event, QUARANTINE, _RECEIVED).data})) for event in events]


def _lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_list_shows_the_newest_items_and_why_they_were_refused(service: Receiver, run_here: Run) -> None:
    assert service.post(body([report("good"), report("bad", mobile=None)]))[0] == 200
    service.post(b"not json")
    shown = run_here("quarantine", "list", "--limit", "1").stdout
    assert "tencent" in shown
    assert "not JSON" in shown
    assert "1 of 2" in shown
    listed = _lines(run_here("quarantine", "list", "--json").stdout)
    assert listed[1]["event"]["data"]["reasons"] == ["mobile: Missing data for required field."]


def test_show_has_the_item_whole_and_the_reasons(cli_redis: Redis, run_here: Run) -> None:
    item = '{"sid":"14:aa","text":"\x9b2J","n":[1,2]}'.encode()
    strange = b"\xff\xfe \x1b[31m"
    good, bad = _quarantined(cli_redis, item, strange)
    shown = run_here("quarantine", "show", good).stdout
    assert "sid: Too long." in shown
    assert '"sid": "14:aa"' in shown
    assert "\\xff\\xfe \\u001b[31m" in run_here("quarantine", "show", bad).stdout
    whole = run_here("quarantine", "show", good, "--json").stdout
    assert "\x9b" not in shown + whole
    assert "\x9b2J" in json.loads(whole)["event"]["data"]["item"]
    assert run_here("quarantine", "show", "1-1").returncode == 2


def test_retry_publishes_what_is_good_now_and_keeps_the_rest(cli_redis: Redis, run_here: Run) -> None:
    good = body(report("14:late", surplus=1))
    still_bad = body(report("x", mobile=None))
    batch = body([report("a"), report("b", mobile=None)])
    ids = _quarantined(cli_redis, good, still_bad, batch, b"\xff")
    result = run_here("quarantine", "retry", "--all")
    assert "2 published, 2 still invalid." in result.stdout
    assert f"{ids[1]} still invalid: mobile: Missing data" in result.stdout
    assert result.returncode == 1
    events = [json.loads(fields["data"]) for _, fields in cli_redis.xrange(SUCCESS)]
    assert [event["data"]["message_id"] for event in events] == ["14:late", "a"]
    assert events[0]["receivedtime"] == "2020-09-13T12:26:40.123Z"
    left = [id_ for id_, _ in cli_redis.xrange(QUARANTINE)]
    assert left[:2] == [ids[1], ids[3]]
    assert len(left) == 3, "what is wrong with an item of the batch is quarantined by itself"


def test_retry_removes_nothing_that_is_not_in_its_stream(cli_redis: Redis, run_here: Run) -> None:
    cli_redis.set(SUCCESS, "in the way")
    (id_,) = _quarantined(cli_redis, body(report()))
    result = run_here("quarantine", "retry", id_, "--json")
    (verdict,) = _lines(result.stdout)
    assert (verdict["topic_urn"], verdict["entry_id"], verdict["outcome"]) == (QUARANTINE, id_, "not published")
    assert "WRONGTYPE" in verdict["reasons"][0]
    assert cli_redis.xlen(QUARANTINE) == 1


def test_a_narrow_terminal_does_not_cut_the_topic_of_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    reading, terminal = pty.openpty()
    with os.fdopen(terminal, "w", encoding="utf-8") as out, redirect_stdout(out):
        results = RetryProgress("retrying", as_json=False)
        with results.progress(1):
            results.add([RetryResult("1-1", REFUSED, [f"{SUCCESS}: WRONGTYPE"], QUARANTINE)])
    printed = b""
    with suppress(OSError):  # the end of what a closed terminal has
        while part := os.read(reading, 65536):
            printed += part
    os.close(reading)
    assert f"{SUCCESS}: WRONGTYPE" in printed.decode()


def test_retry_publishes_to_the_route_in_force_and_not_twice(cli_redis: Redis, run_here: Run) -> None:
    cli_redis.hset("{lookups:default}:routes", "sms_success_event", "urn:smn:local:default:elsewhere")
    for _ in range(2):
        _quarantined(cli_redis, body(report("14:once")))
        assert run_here("quarantine", "retry", "--all").returncode == 0
    assert cli_redis.xlen("urn:smn:local:default:elsewhere") == 1
    assert cli_redis.xlen(QUARANTINE) == cli_redis.xlen(SUCCESS) == cli_redis.xlen(REPLY) == 0


def test_many_items_are_retried_page_by_page(cli_redis: Redis, run_here: Run) -> None:
    _quarantined(cli_redis, *(body(report(f"14:{number}")) for number in range(450)))
    assert "450 published." in run_here("quarantine", "retry", "--all").stdout
    assert cli_redis.xlen(SUCCESS) == 450
    assert cli_redis.xlen(QUARANTINE) == 0


def _sample(provider: str, name: str | None = None) -> CallbackRequest:
    """Return a request of a provider's samples: this one, or the first that has an event."""
    samples = json.loads((PAYLOADS / provider / "samples.json").read_text(encoding="utf-8"))
    sample = next(one for one in samples if name in (None, one["name"]) and (name or one["expect"].get("events")))
    target, sent = sample["path_query"], (sample.get("body") or "").encode()
    return CallbackRequest(sample["method"], target, {}, sent)


@pytest.mark.parametrize(
    "provider",
    [
        "twilio",
        "plivo",
        "vonage",
        "messagebird",
        "kannel",
        "africastalking",
        "huawei-msgsms",
        "amazon-sns",
        "huawei-smn",
    ],
)
def test_an_item_is_what_it_would_be_as_a_callback_today(cli_redis: Redis, run_here: Run, provider: str) -> None:
    """Of a form, a query or an envelope: shown as it was received, and its event has the same id."""
    request = _sample(provider)
    (event,) = Project(id="default").provider(provider).parse(request).events
    (id_,) = _quarantined(cli_redis, raw_of(request), provider=provider)
    assert provider in run_here("quarantine", "list").stdout
    shown = run_here("quarantine", "show", id_).stdout
    assert "".join(raw_of(request).decode().split())[:40] in "".join(shown.split())
    result = run_here("quarantine", "retry", id_)
    assert (result.returncode, "1 published." in result.stdout) == (0, True)
    topic = ProjectRoutes(Project(id="default")).table[event.type]
    ((_, fields),) = cli_redis.xrange(topic)
    assert json.loads(fields["data"])["id"] == EnvelopeBuilder(provider, "default").build(event, topic, 1).id.hex()


def test_retry_reads_items_with_the_options_of_the_project(cli_redis: Redis, run_here: Run, tmp_path: Path) -> None:
    """What the project says of states that are not final, or tell nothing, holds here too."""
    unknown = raw_of(_sample("kannel", "unknown (66 = 64 + 2)"))
    queued = raw_of(_sample("kannel", "queued (4): no event"))
    _quarantined(cli_redis, unknown, queued, provider="kannel")
    config = tmp_path / "receiver.toml"
    options = "[projects.default]\n[projects.default.providers.kannel]\n"
    config.write_text(options + 'inconclusive = "success"\n', encoding="utf-8")
    result = run_here("quarantine", "retry", "--all", RECEIVER_CONFIG=str(config))
    assert "1 published, 1 still invalid." in result.stdout
    assert "of a state that is not final: set pending = true" in " ".join(result.stdout.split())
    assert (cli_redis.xlen(SUCCESS), cli_redis.xlen(QUARANTINE)) == (1, 1)
    config.write_text(options + "pending = true\n", encoding="utf-8")
    assert run_here("quarantine", "retry", "--all", RECEIVER_CONFIG=str(config)).returncode == 0
    assert (cli_redis.xlen("urn:smn:local:default:sms_sent"), cli_redis.xlen(QUARANTINE)) == (1, 0)


def test_drop_asks_first_and_names_what_is_not_there(cli_redis: Redis, run_here: Run) -> None:
    first, _ = _quarantined(cli_redis, b"1", b"2")
    asked = run_here("quarantine", "drop", "--all", stdin="n\n")
    assert "Drop 2 items of project default for good?" in asked.stderr
    assert (asked.returncode, cli_redis.xlen(QUARANTINE)) == (1, 2)
    result = run_here("quarantine", "drop", first, "1-1", "--yes")
    assert "1-1 not there" in result.stdout
    assert (result.returncode, cli_redis.xlen(QUARANTINE)) == (1, 1)
    assert run_here("quarantine", "drop", "--all", stdin="y\n").returncode == 0
    assert cli_redis.xlen(QUARANTINE) == 0


def test_which_items_has_to_be_said(run_here: Run) -> None:
    assert "--all" in run_here("quarantine", "retry").stderr
    assert run_here("quarantine", "drop", "1-1", "--all").returncode == 2
    assert "choose one of: default" in run_here("quarantine", "list", "--project", "nobody").stderr


def test_all_projects_are_listed_and_each_item_is_found_in_its_own(
    cli_redis: Redis, run_here: Run, tmp_path: Path
) -> None:
    """Who is on call knows the provider, and not the project. Only ``drop --all`` has to be told which one."""
    config = tmp_path / "receiver.toml"
    config.write_text("[projects.shop]\n[projects.bank]\n", encoding="utf-8")
    second, _ = cli_redis.time()
    ids = {"shop": f"{second}000-1", "bank": f"{second}000-2"}
    for project, item in (("shop", body(report("14:shop"))), ("bank", b"no JSON")):
        topic = f"urn:smn:local:{project}:quarantine"
        data = (
            EnvelopeBuilder("tencent", project)
            .build(Rejection.of("", [Reason("", "why")], item).event, topic, _RECEIVED)
            .data
        )
        cli_redis.xadd(topic, {"data": data}, ids[project])

    def run(*arguments: str) -> Any:
        return run_here("quarantine", *arguments, RECEIVER_CONFIG=str(config))

    listed = run("list").stdout.splitlines()
    assert [line.split()[:4:3] for line in listed if "tencent" in line] == [
        [ids["bank"], "bank"],
        [ids["shop"], "shop"],
    ]
    assert [one["project_id"] for one in _lines(run("list", "--json", "--limit", "1").stdout)] == ["bank"]
    assert ids["bank"] not in run("list", "--project", "shop").stdout
    assert "bank" in run("show", ids["bank"]).stdout
    assert "1 published, 1 still invalid." in run("retry", *ids.values()).stdout
    assert cli_redis.xlen("urn:smn:local:shop:sms_success") == 1
    assert "choose it with --project" in run("drop", "--all", "--yes").stderr
    assert "The quarantine of project shop is empty." in run("list", "--project", "shop").stdout
    cli_redis.xadd("urn:smn:local:shop:quarantine", {"data": "{}"}, ids["bank"])
    assert "several projects have an entry" in run("drop", ids["bank"], "--yes").stderr
    assert run("drop", ids["bank"], "--yes", "--project", "bank").returncode == 0
    assert run("drop", ids["bank"], "--yes").returncode == 0
    assert "The quarantines of all projects are empty." in run("list").stdout
