"""TLS with a client's certificate and a user of an access list: to one Redis, through Sentinels, and to a cluster.

The embedded Valkey has no TLS, so these are Debian's Redis.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
import structlog
import trustme
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from servers import Child, eventually, free_port

from receiver.cli.redis_refusals import RIGHTS
from receiver.delivery.delivery import Delivery
from receiver.events import Entry
from receiver.redis_client import connect, on, open_client
from receiver.redis_url import parse_redis_url
from receiver.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

#: Servers start, fail and agree again, on a machine that may be busy.
pytestmark = pytest.mark.timeout(240)

TOPIC = "urn:smn:local:p:tls"
USER, PASSWORD = "sms", "p@ss:w/rd"
QUOTED = "sms:p%40ss%3Aw%2Frd"


class Authority:
    """Certificates of a server and a client, in files."""

    def __init__(self, folder: Path) -> None:
        """Write them."""
        self.ca, self.server, self.client = (folder / f"{name}.pem" for name in ("ca", "server", "client"))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(self.server))
        authority.issue_cert("client@example.com").private_key_and_cert_chain_pem.write_to_path(str(self.client))

    @property
    def query(self) -> str:
        """The query of a REDIS_URL."""
        return f"ssl_ca_certs={self.ca}&ssl_certfile={self.client}&ssl_keyfile={self.client}"

    def admin(self, port: int) -> Redis:
        """Return a client of the default user."""
        files = {"ssl_ca_certs": str(self.ca), "ssl_certfile": str(self.client), "ssl_keyfile": str(self.client)}
        return Redis(port=port, host="127.0.0.1", ssl=True, retry=Retry(NoBackoff(), 0), **files)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the certificates."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def tls_server(authority: Authority, folder: Path, *lines: str, sentinel: bool = False) -> Iterator[int]:
    """Run a server that speaks TLS to clients with a certificate only, and return its port."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (Debian's package redis-server): TLS is not tested")
    port = free_port()
    folder.mkdir()
    common = [
        *("port 0", f"tls-port {port}", "bind 127.0.0.1", f"dir {folder}", "tls-auth-clients yes"),
        *(f"tls-cert-file {authority.server}", f"tls-key-file {authority.server}"),
        *(f"tls-ca-cert-file {authority.ca}", "tls-replication yes"),
    ]
    (folder / "redis.conf").write_text("\n".join([*common, *lines]) + "\n", encoding="utf-8")
    server = Child([binary, str(folder / "redis.conf"), *["--sentinel"] * sentinel], folder / "output.log")

    def answers() -> bool:
        assert server.alive, server.output
        try:
            with authority.admin(port) as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except RedisError:
            return False

    try:
        eventually(answers, "the server answers", 60)
        yield port
    finally:
        server.kill()


def allow_user(authority: Authority, port: int) -> None:
    """Create the user with the rights that the commands advise."""
    rights = [word.strip("'") for word in RIGHTS.split()[3:]]
    with authority.admin(port) as client:
        client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", *rights)


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Delivery]:
    """Open a delivery to a Redis, and close it."""
    delivery = Delivery(Settings(data_dir=folder, publish_timeout=1.2), url, structlog.get_logger("tls"))
    await delivery.open()
    try:
        yield delivery
    finally:
        await delivery.close()


async def takes_an_event(url: str, folder: Path) -> None:
    """Wait until an event has gone to Redis, and can be read there."""
    async with opened(url, folder) as delivery, asyncio.timeout(90):
        while delivery.route != "redis":
            await asyncio.sleep(0.01)
        await delivery.store([Entry(TOPIC, b"1" * 16, b"{}")], 100)
        client = connect(url)
        await open_client(client)
        while not await on(client, TOPIC).xlen(TOPIC):
            await asyncio.sleep(0.01)
        await client.aclose()


async def is_refused(url: str, folder: Path, word: str) -> None:
    """Wait until it is known why no connection succeeds."""
    with structlog.testing.capture_logs() as logs:
        async with opened(url, folder) as delivery, asyncio.timeout(90):
            while not any(word in str(log.get("error")).lower() for log in logs):
                await asyncio.sleep(0.01)
            assert delivery.route == "spool"


async def test_one_redis_is_reached_over_tls(authority: Authority, tmp_path: Path) -> None:
    """A client without a certificate, or that does not know the server's authority, gets nowhere."""
    with tls_server(authority, tmp_path / "one") as port:
        allow_user(authority, port)
        url = f"rediss://{QUOTED}@127.0.0.1:{port}/0"
        await takes_an_event(f"{url}?{authority.query}", tmp_path / "data")
        await is_refused(f"{url}?ssl_ca_certs={authority.ca}", tmp_path / "other", "certificate required")
        await is_refused(url, tmp_path / "third", "certificate verify failed")


async def test_a_cluster_is_reached_over_tls(authority: Authority, tmp_path: Path) -> None:
    """Its map of slots has the ports of TLS, and each node gets the certificate and the password."""
    lines = ("cluster-enabled yes", "tls-cluster yes", f"cluster-port {free_port()}", "cluster-announce-ip 127.0.0.1")
    with tls_server(authority, tmp_path / "node", *lines) as port:
        allow_user(authority, port)
        with authority.admin(port) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), "it serves", 20)
        url = f"rediss+cluster://{QUOTED}@127.0.0.1:{port}?{authority.query}"
        await takes_an_event(url, tmp_path / "data")


async def test_sentinels_are_reached_over_tls(authority: Authority, tmp_path: Path) -> None:
    """They have a password of their own, and name the port of TLS."""
    with tls_server(authority, tmp_path / "primary") as port:
        allow_user(authority, port)
        lines = (f"sentinel monitor mymaster 127.0.0.1 {port} 1", "requirepass sentinels")
        with tls_server(authority, tmp_path / "sentinel", *lines, sentinel=True) as sentinel:
            url = f"rediss+sentinel://{QUOTED}@127.0.0.1:{sentinel}/mymaster/0?sentinel_password=sentinels"
            assert parse_redis_url(url).sentinel_options["password"] == "sentinels"
            await takes_an_event(f"{url}&{authority.query}", tmp_path / "data")
