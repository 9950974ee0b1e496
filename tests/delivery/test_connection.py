"""A connection whose Redis refuses as a whole is dropped: the name may lead to another Redis by now."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from servers import free_port

from receiver.chaos.proxy import FaultProxy
from receiver.delivery.publisher import Publisher
from receiver.errors import WriteFailedError
from receiver.events import Entry
from receiver.redis_client import connect, on
from receiver.redis_cluster import Cluster
from receiver.redis_url import parse_redis_url

KEY = "urn:smn:local:p:one"


async def read_only(client, _folder):
    """Make it the replica of a primary that it cannot reach: it writes no more."""
    await client.replicaof("127.0.0.1", 1)


async def without_primary(client, _folder):
    """Make it a replica that does not even read."""
    await client.config_set("replica-serve-stale-data", "no")
    await client.replicaof("127.0.0.1", 1)


async def without_replicas(client, _folder):
    """Let it write only with a replica, which it does not have."""
    await client.config_set("min-replicas-to-write", 1)


async def without_snapshot(client, folder):
    """Let it fail to save: it writes no more."""
    (folder / "dump.rdb").mkdir()
    await client.config_set("save", "3600 1")
    await client.bgsave()
    async with asyncio.timeout(10):
        while (await client.info("persistence"))["rdb_last_bgsave_status"] != "err":
            await asyncio.sleep(0.01)


async def by_command(client):
    """Write with a command."""
    await client.set(KEY, 1)


async def by_pipeline(client):
    """Write with several."""
    async with client.pipeline(transaction=False) as pipe:
        await pipe.set(KEY, 1).set(KEY, 2).execute()


async def by_transaction(client):
    """Write with several, all or none."""
    async with client.pipeline(transaction=True) as pipe:
        await pipe.set(KEY, 1).set(KEY, 2).execute()


async def by_script(client):
    """Write with a script."""
    await client.eval("return redis.call('SET', KEYS[1], 1)", 1, KEY)


@pytest.mark.parametrize("write", [by_command, by_pipeline, by_transaction, by_script])
@pytest.mark.parametrize("broken", [read_only, without_primary, without_replicas, without_snapshot])
async def test_a_connection_to_a_redis_that_takes_no_writes_is_used_no_more(own_valkey, broken, write):
    """Whatever the way of writing; and the error is raised all the same."""
    server = own_valkey()
    async with connect(server.url) as client:
        before = await client.client_id()
        await broken(client, server.folder)
        assert await client.client_id() == before
        with pytest.raises(RedisError):
            await write(client)
        assert await client.client_id() != before


async def test_an_error_about_a_key_or_a_command_does_not_cost_the_connection(redis, redis_url):
    """Nor does a Redis that is full: it is the right one."""
    async with connect(redis_url) as client:
        before = await client.client_id()
        await client.set(KEY, "a text")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await client.xadd(KEY, {"data": 1})
        with pytest.raises(ResponseError, match="unknown command"):
            await client.execute_command("NO-SUCH-COMMAND")
        await redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(OutOfMemoryError):
                await client.set(KEY, 1)
        finally:
            await redis.config_set("maxmemory", 0)
        assert await client.client_id() == before


@pytest.fixture
async def moving(own_valkey):
    """Return a name that leads to a Redis, a publisher that knows the name alone, and a second Redis."""
    first, second = own_valkey(), own_valkey(appendonly="no")
    async with FaultProxy(free_port(), first.port) as name, connect(f"redis://127.0.0.1:{name.port}/0") as client:
        publisher = Publisher(client, 5.0, 86400)
        yield name, publisher, connect(first.url), connect(second.url), second.port
        await publisher.close()


async def test_a_publisher_follows_the_name_after_one_refused_batch(moving):
    """The refused batch is not taken, and is in the new primary when it comes again."""
    name, publisher, old, new, port = moving
    batch = [Entry(KEY, b"1" * 16, b"data")]
    assert not await publisher.write(batch)
    await read_only(old, None)
    name.lead_to(port)
    with pytest.raises(WriteFailedError) as caught:
        await publisher.write(batch)
    assert caught.value.topic is None
    assert not await publisher.write(batch)
    assert await new.xlen(KEY) == 1


async def test_a_publisher_that_is_told_to_follows_the_name_at_once(moving):
    """Another one has found out: its own next batch need not be refused first."""
    name, publisher, old, new, port = moving
    batch = [Entry(KEY, b"1" * 16, b"data")]
    assert not await publisher.write(batch)
    await read_only(old, None)
    name.lead_to(port)
    publisher.renew()
    assert not await publisher.write(batch)
    assert await new.xlen(KEY) == 1


async def test_a_node_that_answers_nonsense_is_no_answer_and_the_cluster_is_asked_again() -> None:
    """Another program may have its port. The task that asks must not end: it finds the primaries of a fail-over."""
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.read(4096):
            asked += 1
            writer.write(b"+OK\r\n" * 9)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cluster = Cluster(parse_redis_url(f"redis+cluster://127.0.0.1:{port}"))
        await cluster.open()
        assert not await cluster.refresh()
        assert [*cluster.problems] == [("127.0.0.1", port)]
        assert asked
        await cluster.aclose()


async def test_a_command_that_redis_does_not_answer_ends_for_those_who_set_a_time(redis_url: str) -> None:
    """Commands do: one primary may be frozen while the others have answered the greeting."""
    client = connect(redis_url, timeout=0.05)
    with pytest.raises(RedisTimeoutError, match=r"no answer within 0\.05 s"):
        await on(client, "k").blpop("nothing", timeout=5)
    await client.aclose()
    node = redis_url.rpartition(":")[2].partition("/")[0]
    cluster = connect(f"redis+cluster://127.0.0.1:{node}", timeout=0.05)
    assert isinstance(cluster, Cluster)
    with pytest.raises(RedisTimeoutError, match="no answer"):
        await cluster.at(("127.0.0.1", int(node))).blpop("nothing", timeout=5)
    await cluster.aclose()
