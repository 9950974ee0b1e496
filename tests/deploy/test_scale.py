"""The arithmetic of deploy/scale.md is right, and its Redis groups work as they are set."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from messages import OK, body, report
from redis import Redis
from redis.exceptions import ResponseError
from servers import Receiver, RedisServer, eventually, free_port

from receiver.embedded import valkey_binary

#: Each starts several processes, which takes a busy machine a while.
pytestmark = pytest.mark.timeout(120)
DEPLOY = Path(__file__).parents[2] / "deploy"
PAGE = (DEPLOY / "scale.md").read_text(encoding="utf-8")
ENTRY, MARK, NODE, WINDOW = 498, 38, 48e9, 24


def test_the_table_of_capacity_follows_from_what_an_event_costs():
    """Bytes for each event a second, then memory and nodes."""
    rows = re.findall(r"^\| ([\d,]+) \| [\d,.]+ million \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for rate, cells in rows:
        for hours, cell in zip((6, 24, 72), cells.split(" | "), strict=True):
            size = int(rate.replace(",", "")) * 3600 * (hours * ENTRY + 2 * WINDOW * MARK)
            assert cell == f"{size / 1e9:,.1f} GB, {math.ceil(size / NODE)}"


def configured(name, folder):
    """Return the path of a configuration of a group, with its data and what it includes in the folder."""
    base, group = ((DEPLOY / one).read_text(encoding="utf-8") for one in ("redis.conf", name))
    (folder / "base.conf").write_text(base.replace("dir /data", f"dir {folder}"), encoding="utf-8")
    path = folder / "group.conf"
    path.write_text(group.replace("/etc/redis/base.conf", str(folder / "base.conf")), encoding="utf-8")
    return path


@pytest.fixture
def started(tmp_path):
    """Start Valkeys in folders of their own."""
    servers = []

    def start(config, binary=None, **options):
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        servers.append(RedisServer(binary or valkey_binary(), folder, config=configured(config, folder), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def test_a_primary_of_the_sentinels_takes_events_only_with_a_replica(started, tmp_path):
    """The receiver finds it by the Sentinel, spools without a replica, and drains with one."""
    primary = started("sentinel/redis.conf", repl_diskless_sync_delay="0")
    folder = tmp_path / "sentinel"
    folder.mkdir()
    config = folder / "sentinel.conf"
    text = (DEPLOY / "sentinel/sentinel.conf").read_text(encoding="utf-8")
    assert "monitor main redis-0 6379 2" in text
    config.write_text(text.replace("redis-0 6379 2", f"127.0.0.1 {primary.port} 1"))
    binary = folder / "valkey-sentinel"  # its name makes it one
    binary.symlink_to(valkey_binary())
    sentinel = RedisServer(binary, folder, config=config)
    service = Receiver(tmp_path, {"REDIS_URL": f"redis+sentinel://127.0.0.1:{sentinel.port}/main"}, wait=False)
    try:
        eventually(lambda: service.get("/livez")[0] == 200, "the receiver is up", 40)
        with Redis.from_url(primary.url) as client, pytest.raises(ResponseError, match="NOREPLICAS"):
            client.set("one", 1)
        assert service.post(body([report()])) == (200, OK)
        eventually(lambda: service.figure("receiver_spool_events") == 1, "the event is in the spool")
        started("sentinel/redis.conf", replicaof=f"127.0.0.1 {primary.port}")
        eventually(lambda: service.figure("receiver_spool_events") == 0, "the spool is drained", 30)
    finally:
        service.stop()
        sentinel.kill()


def test_a_node_of_the_cluster_has_the_settings_of_the_page(started):
    """And those of deploy/redis.conf, which it includes."""
    node = started("cluster/redis.conf", cluster_port=str(free_port()))
    wanted = {
        "cluster-require-full-coverage": "no",
        "cluster-node-timeout": "5000",
        "min-replicas-to-write": "1",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
    }
    with Redis.from_url(node.url, decode_responses=True) as client:
        assert client.config_get(*wanted) == wanted
        assert client.info("cluster")["cluster_enabled"] == 1
