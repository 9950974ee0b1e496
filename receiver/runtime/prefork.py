"""Turns ``receiver serve --workers N`` into gunicorn's arbiter (``gunicorn_arbiter``), which forks the workers."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

from receiver.runtime.signals import keep_pending
from receiver.runtime.sockets import BACKLOG, Address, addresses
from receiver.spool.spool import Spool

if TYPE_CHECKING:
    from receiver.environment import Environment
    from receiver.runtime.signals import StopSignals
    from receiver.settings import Settings

#: Set if the supervisor has to stop the embedded Valkey when it ends.
EMBEDDED_URL: Final = "RECEIVER_EMBEDDED_URL"
#: The file descriptors of the listening sockets, comma-separated.
LISTENERS: Final = "RECEIVER_LISTENERS"
_SUPERVISOR: Final = "receiver.runtime.gunicorn_arbiter"


def become_supervisor(environment: Environment, settings: Settings, redis_url: str, stopping: StopSignals) -> None:
    """Replace this process by a supervisor of the workers. Return only after a signal to stop.

    The supervisor needs a new process image: it forks, and this process has run threads and an event loop. Raises
    ReceiverError when the port cannot be bound, and SettingsError when the data folder is not writable, so that one
    error is reported instead of one per worker.
    """
    asyncio.run(_probe_spool(settings))
    environ = dict(environment.variables, RECEIVER_WORKERS=str(settings.workers))
    listeners = _listeners(settings)
    environ[LISTENERS] = ",".join(str(listener.fileno()) for listener in listeners)
    if settings.redis_url is None:
        environ[EMBEDDED_URL] = redis_url
    files = [str(path or "") for path in (environment.env_file, environment.data_dir)]
    command = [sys.executable, "-m", _SUPERVISOR, *files]
    sys.stderr.flush()
    keep_pending()
    if stopping.asked:
        return
    os.execve(sys.executable, command, environ)  # noqa: S606 our own arguments


async def _probe_spool(settings: Settings) -> None:
    spool = Spool(settings.data_dir / "spool", settings.spool_max_bytes)
    try:
        await spool.open()
    finally:
        await spool.close()


def _listeners(settings: Settings) -> list[socket.socket]:
    """Open one socket per worker on each port (SO_REUSEPORT), so that the kernel spreads connections evenly.

    With a single socket the worker that wakes first takes most connections (28 of 32 in the median of 15 rounds; 18
    with a socket each), and providers keep connections open for long. The supervisor keeps the sockets open: the next
    worker accepts the connections that arrive while a worker is replaced.
    """
    listeners = [listener for address in addresses(settings) for listener in _of_address(address, settings.workers)]
    for listener in listeners:
        listener.set_inheritable(True)
    return listeners


def _of_address(where: Address, workers: int) -> list[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address, family=family):  # without SO_REUSEPORT: fails if another service uses it
            pass
        return [socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True) for _ in range(workers)]
    except OSError as error:
        raise where.cannot_listen(error) from None
