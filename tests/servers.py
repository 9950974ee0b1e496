"""Real servers for tests: a Redis or Valkey, and the receiver itself, each a child process that is ended by its id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from commands import Command
from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from receiver.chaos.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Seconds. A busy machine takes twenty times as long as an idle one; nobody waits longer than it takes.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
STATUSES = {1: "SUCCESS", 2: "FAIL"}


def eventually(found: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """Ask until the answer is true, and return it. The one place where tests wait for another process.

    The pauses grow to 50 ms: asking costs the processor that the other process needs.
    """
    end, pause = time.monotonic() + timeout, 0.002
    while True:
        answer = found()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what}: not within {timeout:g} s"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)


#: How a command of the receiver begins.
RECEIVER = (sys.executable, "-m", "receiver")
#: Environment variables that the dynamic linker and the interpreter read at their start.
_READ_AT_START = ("LD_", "PYTHON", "COVERAGE_")


class Child:
    """A process of ours."""

    def __init__(self, arguments: list[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        """Start it; what it prints goes to a file. A command of the receiver is forked, for speed (``commands``)."""
        self.log = log
        self.process: Command | subprocess.Popen[bytes]
        own = os.environ if environ is None else environ
        if tuple(arguments[:3]) == RECEIVER and not any(name.startswith(_READ_AT_START) for name in own):
            log.touch()  # who reads it at once finds nothing, not an error
            self.process = Command(arguments[3:], own, log.parent, log, log)
            return
        with log.open("ab") as output:
            self.process = subprocess.Popen(arguments, env=environ, stdout=output, stderr=output, cwd=log.parent)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    @property
    def children(self) -> list[int]:
        """The process ids of its children, from /proc; none when it is gone."""
        try:
            listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        except OSError:
            return []
        return [int(child) for child in listed.split()]

    @property
    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def wait_for(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready. End it if that takes too long: nobody else would, and it slows others down."""
        try:
            eventually(ready, what, START_TIMEOUT)
        except BaseException:
            self.kill()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it is gone."""
        if self.alive:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.signal(signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT)
            raise


class RedisServer(Child):
    """A Redis or Valkey with its data in a folder, fsynced at every write."""

    def __init__(
        self, binary: Path | str, folder: Path, port: int | None = None, *, config: Path | None = None, **options: str
    ) -> None:
        """Start it. Options are those of the configuration file, with ``_`` for ``-``; a file takes their place."""
        self.folder = folder
        self.port = port or free_port()
        login = f":{quote(options['requirepass'], safe='')}@" if "requirepass" in options else ""
        self.url = f"redis://{login}127.0.0.1:{self.port}/0"
        durable = {"save": "", "appendonly": "yes", "appendfsync": "always"}
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            **({} if config else durable),
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        super().__init__([str(binary), *([str(config)] if config else []), *arguments], folder / "output.log")
        self.wait_for(self._answers, f"{binary} answers")

    def _answers(self) -> bool:
        assert self.alive, f"the server ended: {self.output[-2000:]}"
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except (RedisConnectionError, BusyLoadingError):
            return False


class Receiver(Child):
    """``receiver serve`` as a process of its own."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        wait: bool = True,
        descriptors: int | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """Start it with these settings, its data in the folder, and wait until all of its workers serve.

        ``descriptors`` is the hard limit of open files; the soft one is then half of it. ``under`` is a command that
        executes the rest of its arguments.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.port = int(environ.get("PORT", "0")) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        #: Where its metrics are.
        self.inside = f"http://127.0.0.1:{environ.get('RECEIVER_INTERNAL_PORT', self.port)}"
        # The coverage of children is measured when ours is.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_START") if name in os.environ}
        # Without the index, a process more; who tests it asks for it.
        defaults = {"RECEIVER_DATA_DIR": str(folder / "data"), "RECEIVER_STOP_DELAY": "0", "RECEIVER_INDEX": "0"}
        own = {**kept, **defaults, **environ, "PORT": str(self.port)}
        command = [*under, *RECEIVER, "serve"]
        if descriptors is not None:
            limit = f'ulimit -Sn {descriptors // 2} && ulimit -Hn {descriptors} && exec "$@"'
            command = ["/bin/sh", "-c", limit, "sh", *command]
        super().__init__(command, folder / f"receiver-{self.port}.log", own)
        self._workers = int(own.get("RECEIVER_WORKERS", "1"))
        if wait:
            self.wait_for(self.complete, "the receiver is ready, with all of its workers")

    def complete(self) -> bool:
        """Ask whether all workers serve: a service is ready with the first of them, up to 0.1 s before the next."""
        return self.ready() and (self._workers == 1 or self.figure("receiver_worker_route{") == self._workers)

    def ready(self) -> bool:
        """Ask ``/readyz``."""
        assert self.alive, f"the receiver ended: {self.output[-2000:]}"
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, bytes]:
        """GET a path: status (0 when nobody answers) and body."""
        return self._ask(Request(self.url + path))  # noqa: S310 our own URL

    def figure(self, name: str) -> float:
        """Return one figure of ``/metrics``, 0 when there is none yet."""
        lines = self._ask(Request(f"{self.inside}/metrics"))[1].decode().splitlines()  # noqa: S310 our own URL
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def post(self, body: bytes, path: str = "/sms/callback", **headers: str) -> tuple[int, Any]:
        """POST a callback: status (0 when nobody answers) and the decoded body."""
        status, answer = self._ask(Request(self.url + path, body, headers))  # noqa: S310 our own URL
        return status, json.loads(answer) if answer else None

    def put(self, path: str, body: bytes) -> int:
        """PUT a body: status (0 when nobody answers)."""
        return self._ask(Request(self.url + path, body, method="PUT"))[0]  # noqa: S310 our own URL

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Make any request: status (0 when nobody answers) and body."""
        return self._ask(Request(self.url + path, body, headers, method=method))  # noqa: S310 our own URL

    def _ask(self, request: Request) -> tuple[int, bytes]:
        try:
            with urlopen(request, timeout=10) as response:  # noqa: S310 our own URL
                return response.status, response.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()
        except (URLError, ConnectionError, TimeoutError):
            return 0, b""
