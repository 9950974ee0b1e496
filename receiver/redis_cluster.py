"""The primaries of a cluster: which one holds a key, and clients for them.

Several nodes are asked for the map of slots at once, over short timeouts. So a frozen node does not delay it, and one
that was cut off from the majority does not decide it. A MOVED reply corrects the map at once. ASK is not followed: a
command whose keys are on two nodes would take effect twice.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis.asyncio import ConnectionPool, Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from receiver.redis_connection import connect_node, pooled
from receiver.tasks import answers, cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from receiver.redis_url import HostPort, RedisLocation

_logger: Final = logging.getLogger("receiver")
#: Nodes that are asked for the map at a time, the seconds that they may take, and, after the first good answer, the
#: seconds for another node to know better.
_ASKED: Final = 5
_TIMEOUT: Final = 2.0
_SECOND_OPINION: Final = 0.05
#: Seconds between two refreshes: while all is well, while something is wrong, and at most while no node answers.
_IDLE: Final = 5.0
_HURRY: Final = 0.2
_AWAY: Final = 1.0


class _Answer(NamedTuple):
    """What a node knows. The greatest answer is the best one."""

    works: bool
    epoch: int
    slots: list[HostPort | None]
    replicas: frozenset[HostPort]


class Cluster:
    """The nodes of a cluster."""

    def __init__(
        self,
        location: RedisLocation,
        connections: int | None = None,
        changed: Callable[[], None] = lambda: None,
        settled: Callable[[], bool] = lambda: True,
        *,
        timeout: float | None = None,
    ) -> None:
        """Bound the ``connections`` to each node, and with ``timeout`` the seconds for each reply.

        ``changed`` is called when a slot has got another primary. While ``settled`` is false, the map is asked for
        several times a second: a primary is away, and its replica may take over.
        """
        self._location = location
        self._connections = connections
        self._changed = changed
        self._settled = settled
        self._timeout = timeout
        #: The primary of each slot.
        self.slots: list[HostPort | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._known: set[HostPort] = set(location.hosts)
        self._clients: dict[HostPort, _Following] = {}
        #: Why the nodes that were asked last gave no answer.
        self.problems: dict[HostPort, str] = {}
        self._hurry = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Learn the map, if a node answers, and keep it up to date."""
        await self.refresh()
        self._refreshing = asyncio.create_task(self._keep_fresh(), name="refresh cluster")

    async def ping(self) -> None:
        """Raise redis-py's ConnectionError while no node has answered with the map."""
        if not any(self.slots):
            problems = "; ".join(f"{host}:{port}: {problem}" for (host, port), problem in sorted(self.problems.items()))
            raise RedisConnectionError(f"no node of the cluster answers ({problems})")

    async def aclose(self) -> None:
        """Close all connections."""
        await cancel_and_wait(self._refreshing)
        for client in self._clients.values():
            await client.aclose(close_connection_pool=True)

    def on(self, key: str) -> Redis:
        """Return a client for the primary that holds a key. Raises ClusterDownError while none is known."""
        address = self.slots[slot_of(key)]
        if address is None:
            self.hurry()
            raise ClusterDownError(f"no node of the cluster is known to hold {key}")
        return self.at(address)

    def at(self, address: HostPort) -> Redis:
        """Return the client for a node. Its commands follow a slot that has moved."""
        client = self._clients.get(address)
        if client is None:
            own = self.new_client(address)
            if self._connections is not None:
                own = pooled(own, self._connections)
            client = self._clients[address] = _Following(self, own.connection_pool)
        return client

    def new_client(self, address: HostPort) -> Redis:
        """Return another client for a node, which the caller closes. It corrects the map as all do."""

        def moved(error: MovedError) -> None:
            self._move(error.slot_id, (error.host or address[0], error.port))

        return connect_node(self._location, address, moved, self._timeout)

    def by_primary(self, keys: Iterable[str]) -> list[list[str]]:
        """Return keys in groups, one for each primary, and one for keys that no primary is known to hold."""
        found: dict[HostPort | None, list[str]] = {}
        for key in keys:
            found.setdefault(self.slots[slot_of(key)], []).append(key)
        return list(found.values())

    def hurry(self) -> None:
        """Refresh the map now: a node failed, or a slot is not where it was."""
        self._hurry.set()

    async def refresh(self) -> bool:
        """Ask for the map. While no node answers, the last one stays. Return whether one has."""
        known = random.sample(sorted(self._known), len(self._known))
        for start in range(0, len(known), _ASKED):
            answer = await self._best(known[start : start + _ASKED])
            if answer is not None:
                self._apply(answer)
                return True
        return False

    async def _best(self, addresses: list[HostPort]) -> _Answer | None:
        """Return the best answer of some nodes, soon after the first good one."""
        asking = map(self._ask, addresses)
        found = await answers(asking, lambda answer: answer is not None and answer.works, _TIMEOUT, _SECOND_OPINION)
        return max((answer for answer in found if answer is not None), key=lambda answer: answer[:2], default=None)

    async def _ask(self, address: HostPort) -> _Answer | None:
        self.problems[address] = "no answer"
        try:
            async with self.at(address).pipeline(transaction=False) as pipe:
                pipe.execute_command("CLUSTER INFO")
                pipe.execute_command("CLUSTER SLOTS")
                info, ranges = await pipe.execute()
            answer = _answer(info, ranges, address)
        except Exception as error:  # noqa: BLE001 also uvloop's RuntimeError, and replies that no node of a cluster gives
            self.problems[address] = str(error) or repr(error)
            return None
        self.problems.pop(address, None)
        return answer

    def _apply(self, answer: _Answer) -> None:
        self._known = {*self._location.hosts, *filter(None, set(answer.slots)), *answer.replicas}
        if answer.slots != self.slots:
            self.slots[:] = answer.slots
            self._changed()

    def _move(self, slot: int, address: HostPort) -> None:
        if self.slots[slot] != address:
            self.slots[slot] = address
            self._known.add(address)
            self._changed()
        self.hurry()

    async def _keep_fresh(self) -> None:
        pause = _HURRY
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _IDLE if self._settled() else _HURRY)
            self._hurry.clear()
            try:
                pause = _HURRY if await self.refresh() else min(2 * pause, _AWAY)
                await self._close_unknown()
            except Exception:  # any: without this task no fail-over would be noticed
                _logger.exception("cluster.refresh_failed")
            await asyncio.sleep(pause)  # a storm of MOVED replies is one refresh

    async def _close_unknown(self) -> None:
        for address in self._clients.keys() - self._known:
            with contextlib.suppress(RedisError, OSError):  # its machine is lost, and answers no farewell of TLS
                await self._clients.pop(address).aclose(close_connection_pool=True)


class _Following(Redis):
    """The client of one node, for readers. It gives on a command that was refused with MOVED: it has had no effect."""

    def __init__(self, nodes: Cluster, pool: ConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self._nodes = nodes

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 what Redis answers
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except MovedError as error:
            address = self._nodes.slots[error.slot_id]
            if address is None:
                raise
            return await Redis.execute_command(self._nodes.at(address), *args, **options)  # type: ignore[no-untyped-call]
        except (RedisConnectionError, OSError):
            self._nodes.hurry()
            raise


@lru_cache(maxsize=1 << 16)
def slot_of(key: str) -> int:
    """Return the slot of a key."""
    return key_slot(key.encode())


def _answer(info: dict[str, str], ranges: list[Any], asked: HostPort) -> _Answer:
    """Read the replies to CLUSTER INFO and CLUSTER SLOTS. A node without a host of its own is the one asked."""
    slots: list[HostPort | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    replicas: set[HostPort] = set()
    for first, last, primary, *others in ranges:
        slots[first : last + 1] = [_address(primary, asked)] * (last + 1 - first)
        replicas.update(_address(one, asked) for one in others)
    return _Answer(info["cluster_state"] == "ok", int(info["cluster_current_epoch"]), slots, frozenset(replicas))


def _address(node: list[Any], asked: HostPort) -> HostPort:
    host = (node[0] or b"").decode()
    return (asked[0] if host in {"", "?"} else host), int(node[1])
