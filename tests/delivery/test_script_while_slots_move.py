"""publish.lua while the slot of its topic moves from one node of a cluster to another, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError, TryAgainError
from servers import RedisServer, eventually, free_port

from receiver.delivery.script_calls import SCRIPT, seen_keys
from receiver.embedded import valkey_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC = "urn:smn:local:moving:one"
WINDOW = 86400


def knows(node: Redis) -> bool:
    """Tell whether a node takes the cluster for complete, and knows both nodes."""
    info: bytes = node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:2" in info


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Redis, Redis]]:
    """Start two nodes. The first has all slots."""
    options = {"cluster_enabled": "yes", "appendonly": "no"}
    servers = [
        RedisServer(valkey_binary(), tmp_path_factory.mktemp("node"), cluster_port=str(free_port()), **options)
        for _ in range(2)
    ]
    source, target = (Redis.from_url(server.url) for server in servers)
    bus = target.config_get("cluster-port")["cluster-port"]
    source.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    source.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[1].port, bus)
    eventually(lambda: knows(target) and knows(source), "both nodes know that the slots are served")
    yield source, target
    for client in (source, target):
        client.close()
    for server in servers:
        server.kill()


def publish(node: Redis, *, asking: bool = False) -> int:
    """Publish five events, at once; ``asking`` as a client does that has followed ASK."""
    now = int(node.time()[0]) // WINDOW  # type: ignore[index]  # its type covers asyncio as well
    ids = [number.to_bytes(16, "big") for number in range(5)]
    keys = [TOPIC.encode(), *seen_keys(TOPIC, now)]
    with node.pipeline(transaction=False) as pipe:
        if asking:
            pipe.execute_command("ASKING")
        pipe.eval(SCRIPT, len(keys), *keys, WINDOW, now, *ids, *[b"{}"] * 5)
        added: int = pipe.execute()[-1]
    return added


def test_no_node_runs_the_script_while_its_keys_are_apart(nodes: tuple[Redis, Redis]) -> None:
    """The stream is here and the ids are there, so a node that ran it would double all events."""
    source, target = nodes
    slot = key_slot(TOPIC.encode())
    names = [str(node.execute_command("CLUSTER", "MYID"), "ascii") for node in nodes]
    assert publish(source) == 5
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    port = target.connection_pool.connection_kwargs["port"]
    source.execute_command("MIGRATE", "127.0.0.1", port, TOPIC, 0, 5000)
    with pytest.raises(TryAgainError):
        publish(source)
    with pytest.raises(TryAgainError):
        publish(target, asking=True)
    for key in list(source.scan_iter()):
        source.execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5000)
    for node in (target, source):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
    assert publish(target) == 0
    assert target.xlen(TOPIC) == 5
    with pytest.raises(ResponseError, match=str(port)):  # MOVED
        publish(source)
