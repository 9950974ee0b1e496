"""All that reads Redis works on a cluster: look-ups, routes, groups, commands; also after a slot has moved."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from messages import body, report
from redis.crc import key_slot
from servers import Receiver, eventually

from receiver.chaos.cluster import move_slot_atomically
from receiver.cli import receiver
from receiver.events import Entry
from receiver.lookups.reports import Reports
from receiver.lookups.scripts import project_key
from receiver.redis_client import Script, connect, on, open_client
from receiver.routing import Routing
from receiver.search.scope import SearchScope
from receiver.settings import read_settings
from receiver.spool.directory import file_of
from receiver.spool.file import lock_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from receiver.chaos.cluster import ValkeyCluster

#: Servers start, fail and agree again, on a machine that may be busy.
pytestmark = pytest.mark.timeout(240)

#: Projects whose streams and indexes are on all shards.
PROJECTS = [f"reader{number}" for number in range(4)]
TOML = "\n".join(
    f"""
[projects.{project}]
default = {str(project == PROJECTS[0]).lower()}
tokens = ["token-of-{project}"]
sign_id = "{project}-sign"
consumer_groups = ["billing"]
"""
    for project in PROJECTS
)


@pytest.fixture(scope="module")
def environ(cluster: ValkeyCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the settings of the service and of the commands."""
    folder = tmp_path_factory.mktemp("readers")
    (folder / "receiver.toml").write_text(TOML, encoding="utf-8")
    return {
        "REDIS_URL": cluster.url,
        "RECEIVER_CONFIG": str(folder / "receiver.toml"),
        "RECEIVER_DATA_DIR": str(folder / "data"),
        "RECEIVER_ALLOW_OPEN": "1",
        "RECEIVER_INDEX": "1",
        "RECEIVER_PUBLISH_TIMEOUT": "1.2s",
    }


@pytest.fixture(scope="module")
def service(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Run the service with its report index."""
    process = Receiver(tmp_path_factory.mktemp("service"), environ)
    yield process
    assert process.stop() == 0


@pytest.fixture
def command(environ: dict[str, str]) -> Iterator[Callable[..., str]]:
    """Run ``receiver …`` in this process, and return what it prints."""
    handlers = list(logging.getLogger().handlers)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(receiver, arguments, env=environ)
        assert result.exit_code == code, result.output + repr(result.exception)
        return result.stdout

    yield run
    logging.getLogger().handlers[:] = handlers


def ask(service: Receiver, project: str, path: str, method: str = "GET", content: Any = None) -> Any:
    """Call SMN's API for a project."""
    headers = {"X-Auth-Token": f"token-of-{project}", "Content-Type": "application/json"}
    path = f"/v2/{project}/notifications/sms{path}"
    status, answer = service.request(method, path, None if content is None else json.dumps(content).encode(), headers)
    assert status in {200, 201}, answer
    return json.loads(answer)


def reported(service: Receiver, project: str) -> set[str]:
    """Return the ids of the messages whose reports can be looked up."""
    now = int(time.time() * 1000)
    span = f"start_time={now - 3600_000}&end_time={now + 3600_000}"
    answer = ask(service, project, f"/report?sign_id={project}-sign&{span}&limit=100")
    return {one["message_id"] for one in answer["data"]}


def send(service: Receiver, project: str, *sids: str) -> None:
    """Post reports of a project, from just now, and one item that is none."""
    zone = 8 * 3600  # Tencent's
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + zone))
    items = [report(sid, user_receive_time=now) for sid in sids]
    assert service.post(body([*items, report(None, user_receive_time=now)]), f"/sms/callback/{project}")[0] == 200


def test_look_ups_and_routes_work_before_and_after_slots_move(service: Receiver, cluster: ValkeyCluster) -> None:
    """The streams and the index of a project move to another shard, its routes with them."""
    for project in PROJECTS:
        send(service, project, f"{project}:1")
        ask(service, project, f"/message/{project}:1", "PUT", {"message": "hello", "mobile": "13800138000"})
    for project in PROJECTS:
        eventually(lambda project=project: reported(service, project) == {f"{project}:1"}, "the report is found", 60)
        assert ask(service, project, f"/message/{project}:1")["message"] == "hello"

    project = PROJECTS[1]
    topic = f"urn:smn:local:{project}:moved"
    routes = {"callback": [{"event_type": "sms_success_event", "topic_urn": topic}]}
    ask(service, project, "/callback", "PUT", routes)
    for key in (project_key(project), topic):
        slot = key_slot(key.encode())
        target = next(node for node in cluster.current_primaries() if node is not cluster.owner(slot))
        asyncio.run(move_slot_atomically(cluster, slot, target))
    for project in PROJECTS:
        send(service, project, f"{project}:2")
    for project in PROJECTS:
        both = {f"{project}:1", f"{project}:2"}
        eventually(lambda project=project, both=both: reported(service, project) == both, "both are found", 60)
    project = PROJECTS[1]
    with cluster.owner(key_slot(topic.encode())).client() as client:
        assert client.xlen(topic) == 1
    assert topic in str(ask(service, project, "/callback"))


def test_groups_and_gauges_are_those_of_all_shards(service: Receiver) -> None:
    """Each project's group is created on its streams, wherever they are, and measured."""
    send(service, PROJECTS[0], "one")

    def measured() -> bool:
        lines = service.get("/metrics")[1].decode()
        return all(
            f'receiver_group_pending_entries{{group="billing",topic="urn:smn:local:{project}:sms_fail"}}' in lines
            for project in PROJECTS
        )

    eventually(measured, "the groups of all projects are measured", 60)
    primaries = json.loads(service.get("/readyz")[1])["redis"]["primaries"]
    assert list(primaries.values()) == [True] * 3


def test_the_console_reads_the_streams_of_all_shards(service: Receiver) -> None:
    """Each project's are on shards of their own."""
    for project in PROJECTS:
        send(service, project, f"{project}:2")
        stream = Request(  # noqa: S310 our own URL
            f"{service.url}/v2/{project}/console/events", headers={"X-Auth-Token": f"token-of-{project}"}
        )
        with urlopen(stream, timeout=10) as answer:  # noqa: S310 our own URL
            message = json.loads(answer.readline().removeprefix(b"data: "))
        assert message["reachable"]
        assert f"{project}:2" in {event["message_id"] for event in message["events"]}
        assert message["quarantine"]["count"] >= 1


def test_commands_reach_streams_of_all_shards(service: Receiver, command: Callable[..., str]) -> None:
    """Each reads or writes streams of several shards."""
    for project in PROJECTS:
        send(service, project, f"{project}:3")
    results = [json.loads(line) for line in command("check", "--json").splitlines()]
    assert sum("answers in" in one["what"] for one in results) == 3
    assert any("adds an event once" in one["what"] for one in results)
    shown = [json.loads(line) for line in command("tail", "--from-start", "-n", "8", "--json").splitlines()]
    assert len({one["source"] for one in shown}) > 1
    assert int(command("index", "rebuild").split()[0].replace(",", "")) >= len(PROJECTS)
    assert len(command("routes", "--json").splitlines()) >= 3 * len(PROJECTS)
    for project in PROJECTS:
        assert len(command("quarantine", "list", "--project", project, "--json").splitlines()) >= 1
        command("quarantine", "retry", "--all", "--project", project, code=1)  # the items are as invalid as before
    assert "billing" in command("groups", "--json")
    assert f"{PROJECTS[2]}:3" in command("find", f"{PROJECTS[2]}:3", "--json")


def test_the_spool_of_a_stopped_service_is_drained_to_all_shards(command: Callable[..., str], tmp_path: Path) -> None:
    """Each event to the primary of its topic."""
    folder = tmp_path / "spool"
    folder.mkdir()
    left = lock_file(file_of(folder, 0), 1 << 30)
    assert left is not None
    left.add([Entry(f"urn:smn:local:p:left{number}", number.to_bytes(16, "big"), b"{}") for number in range(12)])
    left.close()
    assert command("spool", "drain", "--data-dir", str(tmp_path)).startswith("12 events published")


async def test_a_key_is_searched_and_a_script_runs_right_after_its_slot_has_moved(
    cluster: ValkeyCluster, tmp_path: Path
) -> None:
    """Also one that waits for replicas: pipelines do not follow MOVED by themselves."""
    client = connect(cluster.url)
    await open_client(client)
    settings = read_settings({"RECEIVER_DATA_DIR": str(tmp_path)})
    keys = [f"urn:smn:local:searched:topic{number}" for number in range(20)]
    for key in keys:
        await on(client, key).set(key, "1")
    scope = SearchScope(client, Routing(settings.projects.values()), Reports(client), tmp_path, 86400, {})
    write = Script(client, "return redis.call('SET', KEYS[1], ARGV[1])", replicas=1)
    for key in (*keys[:2], "written"):
        slot = key_slot(key.encode())
        target = next(node for node in cluster.current_primaries() if node is not cluster.owner(slot))
        await move_slot_atomically(cluster, slot, target)
    assert await scope.survey([*keys, "urn:smn:local:searched:not-there"]) == (set(keys), {})
    assert await write(["{written}"], ["value"]) == b"OK"
    await client.aclose()
