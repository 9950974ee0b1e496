"""``receiver find``, ``groups`` and ``replay`` on a cluster, with topics and dead letters on several nodes."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from clusters import ValkeyCluster
from messages import FAIL, SUCCESS

from receiver.cli import receiver
from receiver.events import EnvelopeBuilder, Event, EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEAD = f"{SUCCESS}_dead"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Start three primaries."""
    started = ValkeyCluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.end()


@pytest.fixture
def run(cluster: ValkeyCluster, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Run a command in this process, and return the lines that it prints."""
    handlers = list(logging.getLogger().handlers)
    environ = {"REDIS_URL": cluster.url, "RECEIVER_DATA_DIR": str(tmp_path)}

    def command(*arguments: str) -> list[str]:
        result = CliRunner().invoke(receiver, arguments, env=environ)
        assert result.exit_code == 0, (result.stderr, result.exception)
        return result.stdout.splitlines()

    yield command
    logging.getLogger().handlers[:] = handlers


def _add(cluster: ValkeyCluster, topic: str, *message_ids: str) -> list[str]:
    redis = cluster.holder(topic).client
    builder = EnvelopeBuilder("tencent", "default")
    made = [
        Event(EventType.SUCCESS, None, b'{"message_id":"%b","mobile":"13800138000"}' % i.encode()) for i in message_ids
    ]
    return [redis.xadd(topic, {"data": builder.build(event, topic, 1).data}).decode() for event in made]


def test_a_lost_report_is_found_put_aside_and_sent_again(cluster: ValkeyCluster, run: Callable[..., list[str]]) -> None:
    assert len({cluster.holder(topic).port for topic in (SUCCESS, FAIL, DEAD)}) > 1, "on several nodes"
    stuck, _ = _add(cluster, SUCCESS, "5000:1", "5000:2")
    _add(cluster, FAIL, "5000:3")
    assert any(
        f"{SUCCESS}  begins with {stuck} of" in line for line in run("groups", "create", "billing", "--since", "1h")
    )
    redis: Any = cluster.holder(SUCCESS).client
    redis.xreadgroup("billing", "host-2", {SUCCESS: ">"}, count=1)
    (found,) = map(json.loads, run("find", "5000:1", "--json"))
    assert (found["verdict"], found["entry_id"]) == ("published", stuck)
    assert [(group["group"], group["state"], group["consumer"]) for group in found["groups"]] == [
        ("billing", "pending", "host-2")
    ]
    assert len(run("find", "+8613800138000", "--json")) == 3
    rows = {row["topic_urn"]: row for row in map(json.loads, run("groups", "--json"))}
    assert (rows[SUCCESS]["pending"], rows[FAIL]["lag"]) == (1, 1)
    put_aside = ("groups", "dead-letter", "billing", "--deliveries", "1", "--min-idle", "0s", "--yes")
    assert run(*put_aside) == [f"{SUCCESS}  1 entry put aside."]
    assert {row["verdict"] for row in map(json.loads, run("find", "5000:1", "--json"))} == {
        "published",
        "dead-lettered",
    }
    back = ("replay", "--topic", "sms_success_dead", "--from", "start", "--to-topic", "sms_success", "--yes")
    assert run(*back) == ["1 event added."]
    assert run(*back) == ["0 events added."]
    assert redis.xlen(SUCCESS) == 3
