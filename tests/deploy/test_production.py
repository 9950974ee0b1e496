"""The commands of deploy/production.md make a working machine: run below a folder in place of the root."""

from __future__ import annotations

import shutil
from urllib.parse import urlsplit

import pytest
from pages import commands, run
from redis import Redis
from servers import Receiver, RedisServer, free_port

from receiver.environment import read_env_file

#: Each starts several processes, which takes a busy machine a while.
pytestmark = pytest.mark.timeout(120)
PAGE = "production.md"


@pytest.fixture
def machine(tmp_path):
    """Return the folder of a machine with Debian's packages, but for their programs."""
    for name in ("default", "redis", "nginx/conf.d", "prometheus", "sysctl.d", "systemd/system", "../var/lib/redis"):
        (tmp_path / "etc" / name).mkdir(parents=True)
    (tmp_path / "etc/default/prometheus").write_text('ARGS=""\n')
    (tmp_path / "etc/redis/redis.conf").write_text(
        "bind 127.0.0.1 -::1\nappendonly no\nsave 3600 1\ndir /var/lib/redis\n"
    )
    return tmp_path


def test_the_page_makes_a_machine_that_passes_its_check_and_takes_a_callback(machine):
    """With a password that nobody has chosen, a Redis that fsyncs, and no warning left."""
    binary = shutil.which("redis-server")
    if binary is None or shutil.which("promtool") is None:
        pytest.skip("redis-server or promtool is not installed (Debian's packages redis-server, prometheus)")
    for step in ("3. Its configuration", "4. Redis", "6. nginx with TLS", "7. Prometheus"):
        run(commands(PAGE, step, machine))
    environment = machine / "etc/receiver/environment"
    assert environment.stat().st_mode & 0o777 == 0o640
    assert 'ARGS="--web.listen-address=127.0.0.1:9090"' in (machine / "etc/default/prometheus").read_text()
    assert "server_name your.host.name;" in (machine / "etc/nginx/conf.d/receiver.conf").read_text()
    port = free_port()
    environment.write_text(environment.read_text().replace(":6379", f":{port}").replace("8081", str(free_port())))
    settings = read_env_file(environment)
    password = urlsplit(settings["REDIS_URL"]).password
    config = machine / "etc/redis/redis.conf"
    redis = RedisServer(binary, machine / "var/lib/redis", port, config=config, requirepass=password)
    try:
        with Redis.from_url(settings["REDIS_URL"]) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
        service = Receiver(machine / "service", settings)
        try:
            sent = commands(PAGE, "8. A callback", machine)
            assert "All is well." in run(commands(PAGE, "5. The service", machine))
            with environment.open("a") as file:
                file.write(f"PORT={service.port}\n")
            printed = run(sent.replace(":8080", f":{service.port}"))
            assert printed.startswith('{"result":0,"errmsg":"OK"}')
            assert "1 sent, 1 acknowledged" in printed
        finally:
            assert service.stop() == 0
    finally:
        redis.kill()
