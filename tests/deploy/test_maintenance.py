"""The commands of deploy/maintenance.md, run: a backup is restored, and no event stays behind with a replica."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from messages import OK, SUCCESS, body, report
from pages import commands, run
from redis import Redis
from servers import Receiver, RedisServer, eventually, free_port

#: Each starts several processes, which takes a busy machine a while.
pytestmark = pytest.mark.timeout(120)
PAGE = "maintenance.md"


def ids(url):
    """Return the message ids in the stream of delivered reports."""
    with Redis.from_url(url) as client:
        return [json.loads(fields[b"data"])["data"]["message_id"] for _, fields in client.xrange(SUCCESS)]


@pytest.fixture
def machine(tmp_path):
    """Return the folder of a machine as production.md makes it, and the Redis on it."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian's package redis-server): backup and restore are not tried")
    for name in ("etc/receiver", "etc/redis", "var/lib/redis"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/redis/receiver.conf").write_text(
        'appendonly yes\nappendfsync always\nsave ""\nbind 127.0.0.1\nrequirepass secret\n'
    )
    (tmp_path / "etc/redis/redis.conf").write_text(
        f"daemonize no\ndir {tmp_path}/var/lib/redis\ninclude {tmp_path}/etc/redis/receiver.conf\n"
    )
    started = []

    def start(port=None):
        config = tmp_path / "etc/redis/redis.conf"
        started.append(RedisServer(binary, tmp_path / "var/lib/redis", port, config=config, requirepass="secret"))
        return started[-1]

    yield tmp_path, start
    for server in started:
        server.kill()


def test_a_backup_is_restored_under_a_receiver_that_goes_on_acknowledging(machine, serve):
    """What came during the restore is drained into the restored Redis; groups are as they were."""
    folder, start = machine
    redis = start()
    service = serve(REDIS_URL=redis.url)
    assert service.post(body([report("1"), report("2")])) == (200, OK)
    eventually(lambda: ids(redis.url) == ["1", "2"], "both are in their stream")
    with Redis.from_url(redis.url) as client:
        client.xgroup_create(SUCCESS, "billing", id="0")
        client.xreadgroup("billing", "one", {SUCCESS: ">"}, count=1)
    run(commands(PAGE, "Back up", folder).replace("redis-cli --rdb", f"redis-cli -p {redis.port} --rdb"))
    redis.kill()
    assert service.post(body([report("3")])) == (200, OK)
    run(commands(PAGE, "Restore", folder).replace("6390", str(free_port())))
    start(redis.port)
    eventually(lambda: ids(redis.url) == ["1", "2", "3"], "the backup and what was spooled are there", 20)
    with Redis.from_url(redis.url) as client:
        assert client.xpending(SUCCESS, "billing")["pending"] == 1
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_the_folder_of_a_receiver_is_moved_and_a_replica_that_goes_is_emptied(tmp_path, valkey):
    """What was acknowledged while Redis was away arrives from another place, without the service."""
    folder = tmp_path / "var/lib/receiver"
    (tmp_path / "var/backups/receiver").mkdir(parents=True)
    service = Receiver(tmp_path, {"REDIS_URL": "redis://127.0.0.1:1/0", "RECEIVER_DATA_DIR": str(folder)})
    assert service.post(body([report(f"moved-{number}") for number in range(100)])) == (200, OK)
    assert service.stop() == 0
    run(commands(PAGE, "Move a receiver", tmp_path))
    shutil.rmtree(folder)
    run(f"tar -C {folder.parent} -xzf {tmp_path}/var/backups/receiver/spool.tar.gz")
    (tmp_path / "etc/receiver").mkdir(parents=True)
    environment = tmp_path / "etc/receiver/environment"
    environment.write_text(f"REDIS_URL={valkey.url}\nRECEIVER_DATA_DIR={folder}\n")
    printed = run(commands(PAGE, "Fewer replicas", tmp_path))
    assert re.match(r"100 events published\.", printed)
    assert {f"moved-{number}" for number in range(100)} <= set(ids(valkey.url))
