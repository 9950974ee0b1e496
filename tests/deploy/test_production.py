"""The commands of deploy/production.md make a working machine: run below a folder in place of the root."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from servers import Child, Receiver, eventually, free_port

from receiver.cli.environment import read_env_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy" / "production.md").read_text(encoding="utf-8")
#: What needs a machine of its own: packages, users, systemd, containers. test_nginx.py runs nginx.
NOT_HERE = (
    "apt-get ",
    "python3 -m venv",
    "/opt/receiver/bin/pip ",
    "useradd ",
    "systemctl ",
    "nginx ",
    "chgrp ",
    "docker ",
)


def steps(folder):
    """Return the commands of each step by its number, for a machine whose root is this folder."""
    found = {}
    for number, section in re.findall(r"^## (\d)\. (.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL):
        [commands] = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        lines = [line for line in commands.splitlines() if not line.startswith(NOT_HERE)]
        text = "\n".join(lines).replace(
            "runuser -u receiver -- /opt/receiver/bin/receiver", f"{sys.executable} -m receiver"
        )
        found[int(number)] = re.sub(r"(?<![\w/])(/etc/|/var/)", rf"{folder}\1", text.replace("-g receiver", ""))
    return found


def run(commands):
    """Run commands in the folder of the repository, and return what they print."""
    done = subprocess.run(["/bin/sh", "-euc", commands], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def machine(tmp_path):
    """Return the folder of a machine with Debian's packages, but for their programs."""
    for name in ("etc/redis", "etc/nginx/conf.d", "etc/prometheus", "etc/systemd/system", "var/lib/redis"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/redis/redis.conf").write_text(
        "bind 127.0.0.1 -::1\nappendonly no\nsave 3600 1\ndir /var/lib/redis\n"
    )
    return tmp_path


def answers(client):
    """Tell whether Redis takes commands."""
    try:
        return client.ping()
    except (BusyLoadingError, RedisConnectionError):
        return False


def test_the_page_makes_a_machine_that_passes_its_check_and_takes_a_callback(machine):
    """With a password that nobody has chosen, a Redis that fsyncs, and no warning left."""
    binary = shutil.which("redis-server")
    if binary is None or shutil.which("promtool") is None:
        pytest.skip("redis-server or promtool is not installed (Debian's packages redis-server, prometheus)")
    page = steps(machine)
    run("\n".join(page[number] for number in (3, 4, 6, 7)))
    environment = machine / "etc/receiver/environment"
    assert environment.stat().st_mode & 0o777 == 0o640
    assert "server_name your.host.name;" in (machine / "etc/nginx/conf.d/receiver.conf").read_text()
    port = free_port()
    environment.write_text(environment.read_text().replace(":6379", f":{port}"))
    settings = read_env_file(environment)
    redis = Child([binary, str(machine / "etc/redis/redis.conf"), "--port", str(port)], machine / "redis.log")
    try:
        with Redis.from_url(settings["REDIS_URL"]) as client:
            eventually(lambda: answers(client), "Redis answers")
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
        service = Receiver(machine / "service", settings)
        try:
            assert "All is well." in run(page[5])
            assert run(page[8].replace(":8080", f":{service.port}")).startswith('{"result":0,"errmsg":"OK"}')
        finally:
            assert service.stop() == 0
    finally:
        redis.kill()
