"""What is in deploy/ works, as far as that can be told without a container engine: its commands are run by hand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from redis import Redis
from servers import RedisServer

from receiver.embedded import valkey_binary
from receiver.environment import Environment
from receiver.runtime.gunicorn_arbiter import GunicornApplication
from receiver.runtime.signals import longest_stop, longest_stop_of_all
from receiver.settings import read_settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")


def text(name):
    """Return a file of deploy/."""
    return (DEPLOY / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("server", ["valkey", "redis-server"])
def test_a_redis_of_our_configuration_is_durable_and_never_evicts(server, tmp_path):
    """It starts with the file as it is, but for port and folder."""
    binary = valkey_binary() if server == "valkey" else shutil.which(server)
    if binary is None:
        pytest.skip(f"{server} is not installed (Debian's package {server})")
    (tmp_path / "redis.conf").write_text(text("redis.conf").replace("dir /data", f"dir {tmp_path}"))
    process = RedisServer(binary, tmp_path, config=tmp_path / "redis.conf")
    try:
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
        with Redis.from_url(process.url, decode_responses=True) as client:
            assert client.config_get(*wanted) == wanted
    finally:
        process.stop()


def test_whoever_stops_the_service_waits_longer_than_it_takes():
    """Killed earlier, it would leave requests unanswered and its children behind; with workers it takes longest."""
    longest = longest_stop_of_all(read_settings({}))
    service = yaml.safe_load(text("compose.yaml"))["services"]["receiver"]
    assert int(service["stop_grace_period"].removesuffix("s")) > longest
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", text("receiver.service"), re.MULTILINE)
    assert int(seconds) > longest


def test_the_supervisor_of_workers_waits_longer_than_they_take():
    """Gunicorn kills what has not ended after its graceful_timeout."""
    environment = Environment()
    settings = environment.settings()
    arbiter = GunicornApplication(environment, settings, "redis://127.0.0.1:1/0", [0, 0], None)
    assert longest_stop(settings) < arbiter.cfg.graceful_timeout < longest_stop_of_all(settings)


def test_the_guide_says_how_long_a_stop_may_take():
    """Operators that set the two settings higher have to set the time to wait higher, too."""
    settings = read_settings({})
    [more] = re.findall(r"and `RECEIVER_STOP_TIMEOUT` together and (\d+) s", GUIDE)
    assert int(more) >= longest_stop_of_all(settings) - settings.stop_delay - settings.stop_timeout


def test_deployments_keep_the_data_folder_private():
    """No other user of the machine reads phone numbers."""
    assert {"StateDirectoryMode=0700", "UMask=0077"} <= set(text("receiver.service").splitlines())
    assert "-m 0700 /data" in text("Dockerfile")


def test_systemd_stops_the_service_and_leaves_its_children_to_it():
    """SIGTERM for all, its default, would end the report index under a service that starts it again."""
    assert "KillMode=mixed" in text("receiver.service").splitlines()


def test_the_procfile_runs_the_service():
    """For platforms that read it; they set PORT and REDIS_URL."""
    assert "web: receiver serve" in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
