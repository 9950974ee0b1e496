"""Turns ``receiver serve --workers N`` into the supervisor of N workers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from receiver.runtime.signals import keep_pending
from receiver.runtime.sockets import BACKLOG, Address, addresses
from receiver.spool.spool import refuse_unusable

if TYPE_CHECKING:
    from receiver.embedded import EmbeddedValkey
    from receiver.environment import Environment
    from receiver.runtime.signals import StopSignals
    from receiver.settings import Settings


def supervise(
    environment: Environment, settings: Settings, redis_url: str, valkey: EmbeddedValkey | None, stopping: StopSignals
) -> None:
    """Run the workers until a signal stops the service. Raises SystemExit then, in the workers as well.

    This process forks them, so it must not have run threads or an event loop. Raises ReceiverError when the port cannot
    be bound, and SettingsError when the data folder is not writable: one error instead of one per worker.
    """
    refuse_unusable(settings.data_dir / "spool", settings.spool_max_bytes)
    listeners = _listeners(settings)
    # Workers and one process alone import different servers.
    from receiver.runtime.gunicorn_arbiter import GunicornApplication  # noqa: PLC0415

    keep_pending()
    if not stopping.asked:
        GunicornApplication(environment, settings, redis_url, listeners, valkey).run()


def _listeners(settings: Settings) -> list[int]:
    """Open one socket per worker on each port (SO_REUSEPORT), so that the kernel spreads connections evenly.

    Return their descriptors, which gunicorn replaces by its own.

    With a single socket the worker that wakes first takes most connections (28 of 32 in the median of 15 rounds; 18
    with a socket each), and providers keep connections open for long. The supervisor keeps the sockets open: the next
    worker accepts the connections that arrive while a worker is replaced.
    """
    opened = [listener for address in addresses(settings) for listener in _of_address(address, settings.workers)]
    return [listener.detach() for listener in opened]


def _of_address(where: Address, workers: int) -> list[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address, family=family):  # without SO_REUSEPORT: fails if another service uses it
            pass
        return [socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True) for _ in range(workers)]
    except OSError as error:
        raise where.cannot_listen(error) from None
