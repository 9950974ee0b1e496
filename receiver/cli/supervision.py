"""gunicorn's configuration, and what its workers run. Read by gunicorn alone.

It forks the workers, replaces those that die, and restarts them gracefully: SIGHUP replaces them one by one, SIGTERM
stops them in peace. https://gunicorn.org/reference/settings/.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web  # noqa: TC002 the annotation of a class attribute that gunicorn's machinery inspects
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from receiver import log
from receiver.app import OPS, create_app, create_runner
from receiver.cli.beside import add_index
from receiver.cli.workers import EMBEDDED_URL, LISTENERS
from receiver.embedded import EmbeddedValkey
from receiver.settings import read_settings

if TYPE_CHECKING:
    from types import FrameType

#: Seconds by which a worker's own bounds are shorter than gunicorn's.
_MARGIN: Final = 5
_settings: Final = read_settings(os.environ)


async def run() -> web.AppRunner:
    """Return what a worker serves: gunicorn's "application"."""
    redis_url = os.environ.get(EMBEDDED_URL) or str(_settings.redis_url)
    app = create_app(_settings, redis_url)
    add_index(app, _settings, redis_url, log.configure(_settings.log_level))
    Worker.app_of_this_process = app
    return create_runner(app, _settings)


class Worker(GunicornUVLoopWebWorker):
    """A worker that says that it is not ready before it stops."""

    app_of_this_process: web.Application | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: /readyz turns 503 at once, the listening socket is closed after the delay."""
        if self.app_of_this_process is not None:
            self.app_of_this_process[OPS].stopping = True
        self.loop.call_later(_settings.stop_delay, super().handle_exit, sig, frame)


class ServiceLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Sends gunicorn's own words the way of all our log lines."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 gunicorn has no types
        """Hand over to the root logger."""
        super().setup(cfg)
        log.configure(_settings.log_level)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


# gunicorn reads these names; their meaning is in its documentation.
bind = [f"fd://{number}" for number in os.environ[LISTENERS].split(",")]
workers = _settings.workers
worker_class = "receiver.cli.supervision.Worker"
logger_class = ServiceLogger
timeout = 60  # a worker whose event loop stands still for so long is replaced
graceful_timeout = int(_settings.stop_delay + _settings.stop_timeout) + _MARGIN
loglevel = _settings.log_level
proc_name = "receiver"
control_socket_disable = True


def pre_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Give a worker a socket of its own; while workers are replaced, its predecessor's."""
    taken = Counter(other.sockets[0] for other in server.WORKERS.values())
    worker.sockets = [min(server.LISTENERS, key=taken.__getitem__)]


def post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Let go of the other workers' sockets: held here, they would go on collecting connections when theirs end."""
    for listener in server.LISTENERS:
        if listener not in worker.sockets:
            listener.close()


def nworkers_changed(server: Any, number: int, _before: int | None) -> None:  # noqa: ANN401 gunicorn has no types
    """Refuse to have fewer workers than sockets (SIGTTOU): connections to the one without would wait for ever."""
    if number < workers:
        server.num_workers = workers


def child_exit(_server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Take the gauges of a worker that is gone out of the sums."""
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Stop the embedded Valkey after the last worker."""
    if EMBEDDED_URL in os.environ:
        logger = log.configure(_settings.log_level)
        EmbeddedValkey(_settings.data_dir / "valkey", _settings.embedded_port, logger).stop()
