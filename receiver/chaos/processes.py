"""Child processes that can be started, stopped, killed, frozen, and denied their disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from receiver.embedded import last_line, valkey_binary
from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOST: Final = "127.0.0.1"
#: Seconds for a process to be ready on a busy machine. A Valkey that loads a million entries needs a few.
_READY_TIMEOUT: Final = 60.0
_STOP_TIMEOUT: Final = 30.0
_POLL: Final = 0.02


class ChaosError(ReceiverError):
    """The proof cannot run. The message says how to fix it."""


#: Below the ports that systems give to outgoing connections, which could take one before a server listens on it.
_PORTS: Final = range(15_000, 32_000)


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = secrets.choice(_PORTS)
            probe.bind((HOST, port))
            return port


class Child:
    """A child process whose output goes to a file."""

    def __init__(self, log: Path) -> None:
        """``log`` is the file for its output."""
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, command: list[str], environ: Mapping[str, str] | None = None) -> None:
        """Start it without waiting."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,  # Ctrl-C is for the harness, which then ends its children in order
            )

    @property
    def alive(self) -> bool:
        """Whether it runs. A frozen process does."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process id. Raises ChaosError before the start."""
        if self.process is None:
            raise ChaosError(f"{type(self).__name__} was not started")
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if it runs."""
        if self.alive:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """Suspend it (SIGSTOP): its sockets stay open and take bytes."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it (SIGCONT)."""
        self.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend it inside the ``with`` block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def deny_disk(self, *, deny: bool) -> None:
        """Make its writes to files fail, or succeed again, with RLIMIT_FSIZE (Linux)."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0 if deny else hard, hard))

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.signal(signal.SIGKILL)
        await self._gone()

    async def stop(self) -> int:
        """End it with SIGTERM, and return its exit code."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        return await self._gone()

    def rss_bytes(self) -> int:
        """Return its resident memory (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def cpu_seconds(self) -> float:
        """Return its processor time (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def _gone(self) -> int:
        end = time.monotonic() + _STOP_TIMEOUT
        while self.alive and time.monotonic() < end:  # noqa: ASYNC110 there is no event to await
            await asyncio.sleep(_POLL)
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait()

    async def _until_ready(self, port: int) -> None:
        end = time.monotonic() + _READY_TIMEOUT
        while time.monotonic() < end:
            if not self.alive:
                raise ChaosError(f"{type(self).__name__} ended at once; see {self.log}: {last_line(self.log)}")
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.close()
                return
            await asyncio.sleep(_POLL)
        raise ChaosError(f"{type(self).__name__} did not listen within {_READY_TIMEOUT:.0f} s; see {self.log}")


class Valkey(Child):
    """A Valkey as the guarantees require: it fsyncs every write before its reply, and never evicts."""

    def __init__(self, folder: Path, *options: str) -> None:
        """``folder`` is for its data, ``options`` are for every start. Raises EmbeddedError without a Valkey."""
        super().__init__(folder / "valkey.log")
        self.folder = folder
        self.port = free_port()
        self._options = options
        self._binary = str(valkey_binary())

    async def start(self, *options: str) -> None:
        """Start it; return when it listens, possibly before it has loaded its data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = (
            f"--port {self.port} --bind {HOST} --dir {self.folder} --appendonly yes --appendfsync always"
            " --maxmemory-policy noeviction --enable-debug-command local --repl-diskless-sync-delay 0"
        )
        self.spawn([self._binary, *settings.split(), "--save", "", *self._options, *options])
        await self._until_ready(self.port)

    async def loaded(self) -> None:
        """Wait until it answers commands. Raises ChaosError."""
        end = time.monotonic() + _READY_TIMEOUT
        while time.monotonic() < end:
            with contextlib.suppress(RedisError, OSError):
                await asyncio.to_thread(self._ping)
                return
            await asyncio.sleep(_POLL)
        raise ChaosError(f"Valkey did not load its data within {_READY_TIMEOUT:.0f} s; see {self.log}")

    def _ping(self) -> None:
        with self.client() as client:
            client.ping()

    def client(self) -> Redis:
        """Return a client that connects directly, without the proxy. It retries nothing."""
        return Redis(host=HOST, port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    def role(self) -> str:
        """Return ``primary``, ``replica``, ``joining`` (it does not follow its primary yet), or "" while it is away."""
        if not self.alive:
            return ""
        try:
            with self.client() as client:
                info = client.info("replication")
        except (RedisError, OSError):
            return ""
        if info["role"] == "master":
            return "primary"
        following = info.get("master_link_status") == "up" and not info.get("master_sync_in_progress")
        return "replica" if following else "joining"


class ReceiverProcess(Child):
    """The receiver as a process: ``receiver serve``."""

    def __init__(self, log: Path, data_dir: Path, redis_url: str, settings: Mapping[str, str]) -> None:
        """Prepare the environment; ``settings`` are further variables."""
        super().__init__(log)
        self.data_dir = data_dir
        self.port = free_port()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RECEIVER_", "OTEL_"))}
        self._environ = inherited | {
            "PORT": str(self.port),
            "REDIS_URL": redis_url,
            "RECEIVER_HOST": HOST,
            "RECEIVER_DATA_DIR": str(data_dir),
            "RECEIVER_STOP_DELAY": "0.2",
            **settings,
        }

    @property
    def url(self) -> str:
        """The URL on which it listens."""
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        """Start it; return when it listens."""
        self.spawn([sys.executable, "-m", "receiver", "serve"], self._environ)
        await self._until_ready(self.port)
