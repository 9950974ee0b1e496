"""The arithmetic of deploy/scale.md is right, and its Redis groups work as they are set."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path

import pytest
import yaml
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


#: In place of a node's programs. The cluster is well from the second look on.
PROGRAMS = {
    "valkey-cli": 'echo "$@" >> "$HERE/asked"; [ "$2" = meet ] || echo "cluster_state:$(cat "$HERE/state")"; '
    'echo ok > "$HERE/state"',
    "valkey-server": ":",
    "getent": 'echo "10.0.0.${2//[^0-9]/} $2"',
    "sleep": ":",
}


@pytest.mark.parametrize("known", [1, 6])
@pytest.mark.parametrize("file", ["compose.yaml", "kubernetes.yaml"])
def test_nodes_that_all_have_another_address_find_each_other_by_name(tmp_path, file, known):
    """Those of a cluster; before it is created they have to know nobody, or it cannot be."""
    parts = list(yaml.safe_load_all((DEPLOY / "cluster" / file).read_text(encoding="utf-8")))
    if "x-node" in parts[0]:
        script = parts[0]["x-node"]["entrypoint"][-1].replace("$$", "$").replace("${REDIS_MAXMEMORY:-512mb}", "1gb")
    else:
        [pod] = [part["spec"]["template"]["spec"] for part in parts if part["kind"] == "StatefulSet"]
        script = pod["containers"][0]["command"][-1]
    (tmp_path / "nodes.conf").write_text("id 10.0.0.9:6379@16379 master\n" * known + "vars currentEpoch 6\n")
    (tmp_path / "state").write_text("fail")
    (tmp_path / "asked").touch()
    for name, lines in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HERE": str(tmp_path), "REDIS_PASSWORD": "x", "POD_IP": "10.0.0.1"}
    assert "exec valkey-server" in script
    command = [
        "sh",
        "-ec",
        script.replace("/data/", f"{tmp_path}/").replace("exec valkey-server", "wait; : valkey-server"),
    ]
    subprocess.run(command, env=environ, check=True, timeout=10)
    asked = (tmp_path / "asked").read_text().splitlines()
    met = [f"cluster meet 10.0.0.{n} 6379" for n in range(6)]
    assert asked == (["cluster info", *met, "cluster info"] if known > 1 else [])
