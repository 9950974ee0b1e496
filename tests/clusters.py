"""A cluster of real servers, to break: three primaries or more, each with replicas or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from servers import RedisServer, eventually, free_port

from receiver.embedded import valkey_binary

if TYPE_CHECKING:
    from pathlib import Path

#: Milliseconds without an answer after which the others elect a replica.
NODE_TIMEOUT = 1000
HOST = "127.0.0.1"


class ClusterNode(RedisServer):
    """A node of a cluster."""

    def __init__(self, folder: Path, port: int | None = None, bus: int | None = None, **options: str) -> None:
        """Start it, empty or as it was."""
        folder.mkdir(exist_ok=True)
        self.bus = bus or free_port()
        self.options = {
            "cluster_enabled": "yes",
            "cluster_port": str(self.bus),
            "cluster_node_timeout": str(NODE_TIMEOUT),
            "cluster_require_full_coverage": "no",
            "cluster_replica_validity_factor": "0",
            "repl_diskless_sync_delay": "0",
            **options,
        }
        super().__init__(valkey_binary(), folder, port, **self.options)
        self.client = Redis.from_url(self.url)
        self.id = self.client.execute_command("CLUSTER", "MYID").decode()

    def again(self) -> ClusterNode:
        """Start it once more after it was ended, at the same address."""
        options = {name: value for name, value in self.options.items() if name != "cluster_port"}
        return ClusterNode(self.folder, self.port, self.bus, **options)

    def role(self) -> str:
        """Return ``master``, ``slave``, or ``joining`` while a replica has not got everything."""
        info = self.client.info("replication")
        return str(info["role"]) if info.get("master_link_status", "up") == "up" else "joining"

    def primary_port(self) -> int | None:
        """Return the port of the primary that it is a replica of, if it is one."""
        port: int | None = self.client.info("replication").get("master_port")
        return port


class ValkeyCluster:
    """Primaries with an equal share of the slots each."""

    def __init__(self, folder: Path, primaries: int = 3, replicas: int = 0, **options: str) -> None:
        """Start it, and wait until all nodes agree. ``replicas`` are those of each primary."""
        made: list[ClusterNode] = []
        self.nodes = made
        try:
            for number in range(primaries * (1 + replicas)):
                made.append(ClusterNode(folder / f"node{number}", **options))  # noqa: PERF401 ends those that started
            self.primaries = made[:primaries]
            self.replicas = made[primaries:]
            self._join()
        except BaseException:
            self.end()
            raise

    @property
    def url(self) -> str:
        """The ``REDIS_URL`` of all nodes."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def holder(self, key: str) -> ClusterNode:
        """Return the primary that holds a key, as a living node tells."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.alive:
                ranges: Any = node.client.execute_command("CLUSTER SLOTS")
                port = next(primary[1] for first, last, primary, *_ in ranges if first <= slot <= last)
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError("all nodes have ended")

    def fail_over(self, primary: ClusterNode) -> None:
        """Let a replica of a primary take over, as planned, and wait until it has."""
        replica = next(node for node in self.nodes if node.alive and node.primary_port() == primary.port)
        replica.client.execute_command("CLUSTER", "FAILOVER")
        eventually(lambda: (primary.role(), replica.role()) == ("slave", "master"), "the replica has taken over", 20)

    def move(self, key: str, to: ClusterNode) -> None:
        """Move a key's slot key by key, as ``redis-cli --cluster reshard`` does."""
        slot, source = key_slot(key.encode()), self.holder(key)
        to.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            source.client.execute_command("MIGRATE", HOST, to.port, "", 0, 5000, "KEYS", *keys)
        for node in (to, source, *(one for one in self.nodes if one.alive and one not in (to, source))):
            if node.role() == "master":
                node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", to.id)

    def move_atomically(self, key: str, to: ClusterNode) -> None:
        """Move a key's slot as a whole."""
        slot, source = key_slot(key.encode()), self.holder(key)
        source.client.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.id)
        eventually(lambda: self.holder(key) is to, "the slot has moved", 20)

    def end(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            if node.alive:
                node.client.close()
                node.kill()

    def _join(self) -> None:
        count = len(self.primaries)
        for number, node in enumerate(self.primaries):
            first, last = (REDIS_CLUSTER_HASH_SLOTS * at // count for at in (number, number + 1))
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.nodes[0].client.execute_command("CLUSTER", "MEET", HOST, node.port, node.bus)
        eventually(self._all_meet, "all nodes of the cluster know each other", 20)
        for number, replica in enumerate(self.replicas):
            replica.client.execute_command("CLUSTER", "REPLICATE", self.primaries[number % count].id)
        eventually(self._all_well, "the cluster works", 20)

    def _all_meet(self) -> bool:
        return all(
            int(_info(node)["cluster_known_nodes"]) == len(self.nodes) and _info(node)["cluster_state"] == "ok"
            for node in self.nodes
        )

    def _all_well(self) -> bool:
        return self._all_meet() and all(replica.role() == "slave" for replica in self.replicas)


def _info(node: ClusterNode) -> dict[str, str]:
    text: bytes = node.client.execute_command("CLUSTER", "INFO")
    return dict(line.split(":") for line in text.decode().splitlines())
