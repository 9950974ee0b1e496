"""``receiver find``, ``groups`` and ``replay`` on a cluster, with topics and dead letters on several nodes."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from redis.cluster import RedisCluster

from receiver.cli import receiver
from receiver.events import EnvelopeBuilder, Event, EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from receiver.chaos.cluster import ValkeyCluster

#: Its topics are on three nodes.
PROJECT = "stuck"
TOPIC, FAIL, DEAD = (f"urn:smn:local:{PROJECT}:{name}" for name in ("sms_success", "sms_fail", "sms_success_dead"))


@pytest.fixture
def redis(cluster: ValkeyCluster) -> Iterator[RedisCluster]:
    """Return a client that finds its way in the cluster."""
    port = cluster.nodes[0].port
    with RedisCluster(host="127.0.0.1", port=port, decode_responses=True) as client:
        yield client


@pytest.fixture
def run(cluster: ValkeyCluster, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Run a command in this process, and return the lines that it prints."""
    handlers = list(logging.getLogger().handlers)
    config = tmp_path / "receiver.toml"
    config.write_text(f"[projects.{PROJECT}]\n", encoding="utf-8")
    environ = {"REDIS_URL": cluster.url, "RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_CONFIG": str(config)}

    def command(*arguments: str) -> list[str]:
        result = CliRunner().invoke(receiver, arguments, env=environ)
        assert result.exit_code == 0, (result.stderr, result.exception)
        return result.stdout.splitlines()

    yield command
    logging.getLogger().handlers[:] = handlers


def _add(redis: RedisCluster, topic: str, *message_ids: str) -> list[str]:
    builder = EnvelopeBuilder("tencent", PROJECT)
    data = [b'{"message_id":"%b","mobile":"13800138000"}' % message_id.encode() for message_id in message_ids]
    made = [builder.build(Event(EventType.SUCCESS, None, one), topic, 1) for one in data]
    return [str(redis.xadd(topic, {"data": entry.data})) for entry in made]


def test_a_lost_report_is_found_put_aside_and_sent_again(redis: RedisCluster, run: Callable[..., list[str]]) -> None:
    assert len({redis.get_node_from_key(topic).port for topic in (TOPIC, FAIL, DEAD)}) > 1
    stuck, _ = _add(redis, TOPIC, "5000:1", "5000:2")
    _add(redis, FAIL, "5000:3")
    assert any(
        line.startswith(f"{TOPIC}  begins with {stuck} of")
        for line in run("groups", "create", "billing", "--since", "1h", "--all-topics")
    )
    redis.xreadgroup("billing", "host-2", {TOPIC: ">"}, count=1)
    (found,) = map(json.loads, run("find", "5000:1", "--json"))
    assert (found["verdict"], found["entry_id"]) == ("published", stuck)
    assert [(group["group"], group["state"], group["consumer"]) for group in found["groups"]] == [
        ("billing", "pending", "host-2")
    ]
    assert len(run("find", "+8613800138000", "--json")) == 3
    rows = {row["topic_urn"]: row for row in map(json.loads, run("groups", "--json"))}
    assert (rows[TOPIC]["pending"], rows[FAIL]["lag"]) == (1, 1)
    put_aside = ("groups", "dead-letter", "billing", "--deliveries", "1", "--min-idle", "0s", "--yes")
    assert run(*put_aside) == [f"{TOPIC}  1 entry put aside."]
    assert {row["verdict"] for row in map(json.loads, run("find", "5000:1", "--json"))} == {
        "published",
        "dead-lettered",
    }
    back = ("replay", "--topic", "sms_success_dead", "--from", "start", "--yes")
    assert run(*back) == ["1 event added."]
    assert (redis.xlen(TOPIC), redis.xlen(DEAD)) == (3, 0)
