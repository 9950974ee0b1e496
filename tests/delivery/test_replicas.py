"""A batch counts once the replicas have it: what they do not have in time goes to the spool."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest
import redis.asyncio
from servers import RedisServer, eventually

from receiver.delivery.publisher import Publisher
from receiver.embedded import valkey_binary
from receiver.errors import WriteFailedError
from receiver.events import Entry, EventType
from receiver.log import configure
from receiver.lookups.messages import Messages, SentMessage
from receiver.lookups.reports import Reports, Status
from receiver.redis_client import TooFewReplicasError, connect
from receiver.route_overrides import RouteOverrides
from receiver.routing import Routing
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from redis.asyncio import Redis

    Publish = Callable[..., Publisher]

TOPIC = "urn:smn:local:replicas:one"
#: On a busy machine the time for the batch may end before that for the replicas has.
LATE = ("replicas", "timeout")
FAST = {"repl_diskless_sync_delay": "0"}


def entries(*numbers: int) -> list[Entry]:
    """Return entries by number."""
    return [Entry(TOPIC, number.to_bytes(16, "big"), b"%d" % number) for number in numbers]


class Pair:
    """A primary and its replica, both with fsync always."""

    def __init__(self, primary: RedisServer, replica: RedisServer) -> None:
        self.primary, self.replica = primary, replica
        self.joined()

    def joined(self) -> None:
        """Wait until the replica follows."""

        def follows() -> bool:
            with redis.Redis.from_url(self.replica.url) as client:
                info = client.info()
                return info["master_link_status"] == "up" and not info["aof_rewrite_in_progress"]

        eventually(follows, "the replica follows, and writes its own file", 20)


@pytest.fixture(scope="module", params=["valkey", "redis7"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Start them, of each kind: Redis 7.0 has no WAITAOF."""
    binary = valkey_binary() if request.param == "valkey" else shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian's package redis-server): not tested on Redis 7")
    primary = RedisServer(binary, tmp_path_factory.mktemp("primary"), **FAST)
    replica = RedisServer(binary, tmp_path_factory.mktemp("replica"), **FAST, replicaof=f"127.0.0.1 {primary.port}")
    yield Pair(primary, replica)
    replica.kill()
    primary.kill()


@pytest.fixture
async def client(pair: Pair) -> AsyncIterator[Redis]:
    """Return a client of the primary, which is empty, with the replica well in the end."""
    async with redis.asyncio.from_url(pair.primary.url) as primary:
        await primary.flushall()
        await primary.config_resetstat()
        yield primary
        pair.replica.signal(signal.SIGCONT)


@pytest.fixture
async def publisher(pair: Pair) -> AsyncIterator[Publish]:
    """Make publishers that wait for so many replicas, at most so many seconds."""
    made: list[Publisher] = []
    url_client = connect(pair.primary.url)

    def make(replicas: int, timeout: float = 10.0) -> Publisher:
        made.append(Publisher(url_client, timeout, 86400, replicas))
        return made[-1]

    yield make
    for one in made:
        await one.close()
    await url_client.aclose()


async def waits(client: Redis) -> set[str]:
    """Return which of the commands that wait were called, apart from the question on connecting."""
    stats = await client.info("commandstats")
    calls = {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("wait", "waitaof")}
    return {name for name, count in calls.items() if count > (name == "waitaof")}


async def test_without_the_setting_nothing_is_waited_for(client: Redis, publisher: Publish) -> None:
    await publisher(0).write(entries(1))
    assert await waits(client) == set()


async def test_what_was_written_is_on_the_replica(client: Redis, pair: Pair, publisher: Publish) -> None:
    """On its disk, where the primary fsyncs every write itself and Redis has WAITAOF."""
    await publisher(1).write(entries(1, 2, 3))
    async with redis.asyncio.from_url(pair.replica.url) as replica:
        assert await replica.xlen(TOPIC) == 3
    has_waitaof = "valkey_version" in await client.info()
    assert await waits(client) == ({"wait", "waitaof"} if has_waitaof else {"wait"})


async def test_a_primary_that_does_not_sync_every_write_waits_for_no_disk(client: Redis, publisher: Publish) -> None:
    """The operator does without; and each batch would take the second between two syncs."""
    await client.config_set("appendfsync", "everysec")
    try:
        await publisher(1).write(entries(1))
    finally:
        await client.config_set("appendfsync", "always")
    assert await waits(client) == {"wait"}


async def test_a_replica_that_is_late_fails_the_batch_and_the_probe(
    client: Redis, pair: Pair, publisher: Publish
) -> None:
    """And when it is back the same batch is stored once."""
    late = publisher(1, 0.5)
    await publisher(1).write(entries(0))
    pair.replica.signal(signal.SIGSTOP)
    for failing in (lambda: late.write(entries(1, 2)), late.probe):
        with pytest.raises(WriteFailedError) as caught:
            await failing()
        assert caught.value.topic is None
        assert caught.value.reason in LATE
    pair.replica.signal(signal.SIGCONT)
    await publisher(1).probe()
    assert await publisher(1).write(entries(1, 2, 3)) == {}
    assert [int(fields[b"data"]) for _, fields in await client.xrange(TOPIC)] == [0, 1, 2, 3]


async def test_a_batch_that_another_connection_has_added_is_waited_for_as_well(
    client: Redis, pair: Pair, publisher: Publish
) -> None:
    """WAIT waits for what its own connection has written, and such a batch adds nothing.

    Otherwise a drain would remove from the disk what no replica has.
    """
    second = publisher(1, 0.5)
    await second.write(entries(0))
    pair.replica.signal(signal.SIGSTOP)
    await publisher(0).write(entries(1))
    with pytest.raises(WriteFailedError) as caught:
        await second.write(entries(1))
    assert caught.value.reason in LATE
    assert await client.xlen(TOPIC) == 2


async def test_fewer_replicas_than_the_setting_are_too_few(client: Redis, publisher: Publish) -> None:
    """The one that is there does not stand for the other."""
    with pytest.raises(WriteFailedError, match="1 of 2 replicas"):
        await publisher(2, 2).write(entries(1))
    assert await client.xlen(TOPIC) == 1


async def test_a_user_who_may_write_to_topics_only_is_probed_for_replicas(
    client: Redis, pair: Pair, publisher: Publish
) -> None:
    """The probe's own write is refused to him: only the number of replicas that answer can be asked for."""
    await client.acl_setuser("half", True, reset=True, nopass=True, categories=["+@all"], keys=["urn:*", "{urn:*"])  # noqa: FBT003 redis-py's
    url_client = connect(pair.primary.url.replace("redis://", "redis://half:x@"))
    for replicas, fails in ((1, False), (2, True)):
        one = Publisher(url_client, 2 if fails else 10, 86400, replicas)
        if fails:
            with pytest.raises(WriteFailedError, match="1 of 2 replicas"):
                await one.probe()
        else:
            await one.probe()
        await one.close()
    await url_client.aclose()
    await client.acl_deluser("half")


async def test_a_user_who_may_not_wait_writes_nothing_that_counts(client: Redis, pair: Pair) -> None:
    """The reason names the command."""
    await client.acl_setuser("half", True, reset=True, nopass=True, categories=["+@all"], keys=["*"])  # noqa: FBT003 redis-py's
    await client.execute_command("ACL", "SETUSER", "half", "-wait")
    url_client = connect(pair.primary.url.replace("redis://", "redis://half:x@"))
    one = Publisher(url_client, 10, 86400, 1)
    with pytest.raises(WriteFailedError, match=r"(?i)replicas cannot be waited for .*wait"):
        await one.write(entries(1))
    await one.close()
    await url_client.aclose()
    await client.acl_deluser("half")


async def test_a_call_that_was_not_run_is_not_repeated_behind_a_reply_that_is_still_to_come(
    client: Redis, publisher: Publish
) -> None:
    """WAIT falls short, so WAITAOF's reply is left unread. The next command would take it for its own."""
    one = publisher(2, 2)
    one._window.learn(0)  # noqa: SLF001 as if a window had just begun
    with pytest.raises(WriteFailedError, match="1 of 2 replicas") as caught:
        await one.write(entries(1))
    assert caught.value.reason == "replicas"
    assert await client.xlen(TOPIC) == 0


async def test_registrations_reports_and_routes_count_once_replicas_have_them(client: Redis, pair: Pair) -> None:
    """Each fails while the replica stands still, although the primary has it; so does a repetition without effect."""
    messages, reports, routes = Messages(client, 1), Reports(client, replicas=1), read_settings({}).projects.values()
    overrides = RouteOverrides(client, Routing(routes), configure("error"), 1)
    sent = SentMessage(message_id="m1", message="text", mobile="13800138000")

    async def register() -> object:
        return await messages.register("default", [sent])

    async def apply() -> object:
        return await reports.apply("default", [Status("m1", 1, 1)])

    async def change() -> object:
        return await overrides.change("default", {EventType.SUCCESS: "urn:smn:local:default:other"}, "anna")

    for write in (register, apply, change):
        pair.replica.signal(signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(TooFewReplicasError, match="0 of 1 replicas have what was written"):
                await write()
            await client.connection_pool.disconnect()  # a connection that has written nothing has nothing to wait for
        pair.replica.signal(signal.SIGCONT)
        await write()
    assert await messages.text("default", "m1") == "text"
    async with redis.asyncio.from_url(pair.replica.url) as replica:
        assert await replica.hgetall("{lookups:default}:routes") == {
            b"sms_success_event": b"urn:smn:local:default:other"
        }
