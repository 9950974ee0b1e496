"""A cluster of three primaries with a replica each. ``cluster_faults`` has its faults.

https://valkey.io/topics/cluster-spec. Slots are moved key by key as ``redis-cli --cluster reshard`` does, and at once
with CLUSTER MIGRATESLOTS (Valkey 9).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.crc import key_slot
from redis.exceptions import RedisError

from receiver.chaos.deployment import eventually
from receiver.chaos.processes import HOST, ChaosError, Valkey, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from redis import Redis

SHARDS: Final = 3
SLOTS: Final = 16384
_NODE_TIMEOUT_MS: Final = 1000
_MIGRATE_MS: Final = 10_000
_KEYS: Final = 100
_CONFIG: Final = """
[projects.default]
[projects.default.partitions]
sms_success_event = [{ streams = 8 }]
sms_fail_event = [{ streams = 4 }]
"""


class ClusterNode(Valkey):
    """A node of a cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            *("--cluster-enabled", "yes"),
            *("--cluster-port", str(free_port())),
            *("--cluster-announce-ip", HOST),
            *("--cluster-node-timeout", str(_NODE_TIMEOUT_MS)),
            *("--cluster-require-full-coverage", "no"),
            *("--cluster-replica-validity-factor", "0"),
        )
        self.id = ""

    def cluster(self, *command: Any) -> Any:  # noqa: ANN401 what the server answers
        """Run a CLUSTER command. Raises the errors of redis-py."""
        with self.client() as client:
            return client.execute_command("CLUSTER", *command)

    def bus(self) -> str:
        """Return the port of the cluster bus."""
        return self._options[self._options.index("--cluster-port") + 1]

    def agrees(self, nodes: int) -> bool:
        """Tell whether it serves its slots and sees so many nodes, none of them failing."""
        try:
            serves = b"cluster_state:ok" in self.cluster("INFO")
            flags = [line.split()[2] for line in self.cluster("NODES").splitlines()]
        except (RedisError, OSError):
            return False
        return serves and len([one for one in flags if b"fail" not in one and b"handshake" not in one]) == nodes

    def follows(self) -> str:
        """Return the id of its primary, "-" if it is one."""
        lines: list[bytes] = self.cluster("NODES").splitlines()
        return next(line.split()[3].decode() for line in lines if b"myself" in line)


class ValkeyCluster:
    """Six nodes. Each has been a primary or a replica; the servers decide."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "receiver.toml"
        self.nodes = [ClusterNode(folder / f"valkey-{number}") for number in range(2 * SHARDS)]

    @property
    def url(self) -> str:
        """The URL that names all nodes."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    @property
    def settings(self) -> Mapping[str, str]:
        """Further settings of the services: every topic has streams on all nodes."""
        return {"RECEIVER_REPLICAS": "1", "RECEIVER_CONFIG": str(self._config)}

    async def start(self) -> None:
        """Start all nodes, and join them."""
        self._config.write_text(_CONFIG, encoding="utf-8")
        await asyncio.gather(*(node.start() for node in self.nodes))
        await asyncio.to_thread(self._join)
        await eventually(lambda: all(node.agrees(len(self.nodes)) for node in self.nodes), "the nodes did not join")
        for primary, replica in zip(self.nodes[:SHARDS], self.nodes[SHARDS:], strict=True):
            replica.cluster("REPLICATE", primary.id)
        await self.until_healthy()

    def _join(self) -> None:
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            node.id = node.cluster("MYID").decode()
            node.cluster("SET-CONFIG-EPOCH", number + 1)
            if number < SHARDS:
                node.cluster("ADDSLOTSRANGE", SLOTS * number // SHARDS, SLOTS * (number + 1) // SHARDS - 1)
            if node is not first:
                node.cluster("MEET", HOST, first.port, first.bus())

    async def until_healthy(self) -> None:
        """Wait until every node serves, and every shard has a primary and a replica that follows it."""
        await eventually(self._is_healthy, "the nodes of the cluster did not agree")

    def _is_healthy(self) -> bool:
        roles = sorted(node.role() for node in self.nodes)
        return roles == ["primary"] * SHARDS + ["replica"] * SHARDS and all(
            node.agrees(len(self.nodes)) for node in self.nodes
        )

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """Return the replica of a primary."""
        return next(node for node in self.nodes if node.alive and node.follows() == primary.id)

    def current_primaries(self) -> list[ClusterNode]:
        """Return the nodes that are primaries now."""
        return [node for node in self.nodes if node.role() == "primary"]

    def primaries(self) -> list[Redis]:
        """Return a client of each primary."""
        return [node.client() for node in self.current_primaries()]

    async def failed_over(self, former: ClusterNode) -> None:
        """Wait until other nodes than ``former`` are the primaries of all shards."""

        def replaced() -> bool:
            return sum(node.role() == "primary" for node in self.nodes if node is not former) == SHARDS

        await eventually(replaced, "no replica was promoted")

    def owner(self, slot: int) -> ClusterNode:
        """Return the primary of a slot. Raises ChaosError."""
        for first, last, address, *_ in self.current_primaries()[0].cluster("SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == address[1])
        raise ChaosError(f"no node has slot {slot}")

    async def end(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            await node.kill()


def busiest_slot(redis: ValkeyCluster) -> int:
    """Return the slot of the longest stream. Raises ChaosError before there is one."""
    longest = (0, -1)
    for node in redis.current_primaries():
        with node.client() as client:
            for key in client.scan_iter(match="urn:smn:*", count=1000, _type="stream"):
                longest = max(longest, (client.xlen(key), key_slot(key)))
    if longest[1] < 0:
        raise ChaosError("there is no stream yet")
    return longest[1]


def move_slot(redis: ValkeyCluster, slot: int, target: ClusterNode) -> None:
    """Move a slot key by key: its keys are at two nodes meanwhile, and commands for the moved ones get ASK."""
    source = redis.owner(slot)
    target.cluster("SETSLOT", slot, "IMPORTING", source.id)
    source.cluster("SETSLOT", slot, "MIGRATING", target.id)
    with source.client() as client:
        while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, _KEYS):
            client.execute_command("MIGRATE", HOST, target.port, "", 0, _MIGRATE_MS, "KEYS", *keys)
    for node in (target, source, *redis.current_primaries()):
        node.cluster("SETSLOT", slot, "NODE", target.id)


async def move_slot_atomically(redis: ValkeyCluster, slot: int, target: ClusterNode) -> None:
    """Move a slot at once: the source hands it over when the target has all of it."""
    redis.owner(slot).cluster("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
    await eventually(lambda: redis.owner(slot) is target, "the slot did not move")
