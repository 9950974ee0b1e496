"""gunicorn's arbiter for our workers: the supervisor of ``receiver serve --workers N``.

It forks the workers and replaces those that die. SIGHUP replaces them one by one by workers that have loaded the new
configuration file. SIGTERM stops them gracefully, without waiting for a reload. https://gunicorn.org/reference/settings/.

It overrides undocumented methods of ``Arbiter`` and uses its ``WORKERS``, ``LISTENERS`` and ``num_workers``: gunicorn
has no hook for a socket per worker, for retrying a failed start, or for a stop during a reload.
tests/test_dependencies.py checks that they exist.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from receiver import log, metrics
from receiver.peers import SUPERVISOR, Peers, Sample, SharedRecords, WorkerReport
from receiver.runtime import gunicorn_worker
from receiver.runtime.signals import (
    Deadline,
    graceful_timeout,
    keep_pending,
    let_through,
    longest_stop_of_all,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import FrameType

    from aiohttp import web

    from receiver.embedded import EmbeddedValkey
    from receiver.environment import Environment
    from receiver.settings import Settings

#: Seconds until a worker that could not start is started again.
_RETRY: Final = 1.0
#: The folder of gunicorn's heartbeat files, one per worker: in memory, so that a full disk does not stop them.
_MEMORY: Final = "/dev/shm"  # noqa: S108 gunicorn makes the files with mkstemp
_ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class _EndAskedError(Exception):
    """A signal asked the service to stop while workers were being replaced."""


class ReceiverArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Runs the workers of a service, and the embedded Valkey."""

    def __init__(self, app: GunicornApplication) -> None:
        super().__init__(app)
        self.records = SharedRecords()
        self._start_again_at = 0.0
        self._reloads: Counter[str] = Counter()
        #: The supervisor holds one end; the workers notice at the other when it ends, even by a kill.
        self.life = os.pipe()
        self._deadline = Deadline()
        self._deadline.seconds = longest_stop_of_all(app.settings)
        self._end_asked = self._reloading = False

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Queue a signal. Start the deadline at once if it stops the service."""
        if sig in _ENDS:
            self._end_asked = True
            self._deadline.begin()
        super().signal(sig, frame)

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Return the pending signals: only the stop if there is one, and one SIGHUP for several."""
        came: list[int] = super().wait_for_signals(timeout)
        if ends := [number for number in came if number in _ENDS]:
            return ends[:1]
        return [number for place, number in enumerate(came) if number != signal.SIGHUP or number not in came[:place]]

    def spawn_worker(self) -> None:
        """Fork a worker with signals blocked: it would lose those that arrive before it has handlers."""
        keep_pending()
        try:
            super().spawn_worker()
        finally:
            let_through()

    def reap_workers(self) -> None:
        """Reap workers that have ended. A failed start stops the service only if no start ever succeeded.

        After a first success the cause is the machine and other workers may still serve, so the start is retried. A
        reload calls this method while it waits for workers; raise _EndAskedError to abort it for a stop.
        """
        while True:
            try:
                super().reap_workers()
            except HaltServer as failure:  # other ended workers may still have to be reaped
                if not self._has_served():
                    raise
                self._start_again_at = time.monotonic() + _RETRY
                logger = log.configure(self.app.settings.log_level)
                logger.error("worker.not_started", error=failure.reason)  # noqa: TRY400 the worker has logged the rest
            else:
                break
        if self._reloading and self._end_asked:
            raise _EndAskedError

    def _has_served(self) -> bool:
        """Tell whether a worker has ever started: its first report contains counters."""
        return any(self.records.read(number).counters for number in self.records.numbers())

    def manage_workers(self) -> None:
        """Replace ended workers and Valkey. gunicorn calls this every second until it stops."""
        if time.monotonic() >= self._start_again_at:
            super().manage_workers()
        if self.app.valkey is not None:
            self.app.valkey.restart_if_ended()

    def handle_hup(self) -> None:
        """Replace the workers by workers that have loaded the file again. A wrong file changes nothing.

        Environment variables stay as they were, and with them port, number of workers and data folder.
        """
        logger = log.configure(self.app.settings.log_level)
        projects = self.app.environment.reload(logger, secrets=True)
        self._count_reload(metrics.RELOAD_REFUSED if projects is None else metrics.RELOADED, logger)
        if projects is None:
            return
        self.app.settings = dataclasses.replace(self.app.settings, projects=projects)
        logger.info("settings.reloaded", projects=[*projects.by_id])
        self._reloading = True
        try:
            super().handle_hup()
        except _EndAskedError:
            logger.info("settings.reload_ended", reason="the service is stopping")
        finally:
            self._reloading = False

    def _count_reload(self, outcome: str, logger: log.Logger) -> None:
        """Count a reload for all workers. The supervisor's own metrics would be inherited by each of them."""
        self._reloads[outcome] += 1
        counters = [
            Sample("receiver_reloads", "receiver_reloads_total", (("outcome", name),), count)
            for name, count in self._reloads.items()
        ]
        name = "receiver_reload_refused"
        refused = Sample(name, name, (), float(outcome != metrics.RELOADED))
        try:
            self.records.write(SUPERVISOR, WorkerReport(counters=counters, gauges=[refused]))
        except OSError as error:
            logger.error("metrics.not_shared", worker=SUPERVISOR, error=error)  # noqa: TRY400 the memory is full


class GunicornApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's application object: the configuration, and the application that workers serve."""

    def __init__(
        self,
        environment: Environment,
        settings: Settings,
        redis_url: str,
        listeners: Sequence[int],
        valkey: EmbeddedValkey | None,
    ) -> None:
        """Workers get ``settings`` when they are forked; a reload replaces their projects.

        ``listeners`` are descriptors, one per worker of each port. The supervisor restarts ``valkey`` when it ends.
        """
        self.environment = environment
        self.settings = settings
        self.redis_url = redis_url
        self.listeners = listeners
        self.valkey = valkey
        self.peers = Peers()
        super().__init__()

    def load_config(self) -> None:
        """Configure gunicorn, at the start and at each reload."""
        for name, value in _configuration(self.settings).items():
            self.cfg.set(name, value)
        self.cfg.set("bind", [f"fd://{descriptor}" for descriptor in self.listeners])

    def load(self) -> Callable[[], Awaitable[web.AppRunner]]:
        """Return a coroutine function that gives a worker its runner."""
        return self._serve

    def run(self) -> None:
        """Supervise until the service stops."""
        ReceiverArbiter(self).run()

    async def _serve(self) -> web.AppRunner:
        environ = {**self.environment.variables, "REDIS_URL": self.redis_url}
        return await gunicorn_worker.serve(self.settings, environ, self.peers)


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        "workers": settings.workers,
        "worker_class": gunicorn_worker.Worker,
        "logger_class": gunicorn_worker.ServiceLogger,
        "timeout": 60,  # a worker whose event loop blocks for longer is replaced
        "graceful_timeout": graceful_timeout(settings),
        "loglevel": settings.log_level,
        "proc_name": "receiver",
        "control_socket_disable": True,
        "worker_tmp_dir": _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else str(settings.data_dir),
        "when_ready": _when_ready,
        "pre_fork": _pre_fork,
        "post_fork": _post_fork,
        "nworkers_changed": _nworkers_changed,
        "child_exit": _child_exit,
    }


def _pre_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Give a worker a number and, of each port, the socket that fewest workers use."""
    worker.number = min(set(range(1, len(server.WORKERS) + 2)) - {other.number for other in server.WORKERS.values()})
    taken = Counter(listener for other in server.WORKERS.values() for listener in other.sockets)
    ports: dict[int, list[Any]] = {}
    for listener in server.LISTENERS:
        ports.setdefault(listener.getsockname()[1], []).append(listener)
    worker.sockets = [min(listeners, key=taken.__getitem__) for listeners in ports.values()]


def _post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Give a worker its number, and close the descriptors of others.

    An open copy of another worker's socket would keep collecting connections after that worker has ended. Only the
    supervisor may hold its end of the pipe.
    """
    server.app.peers = Peers(server.records, worker.number)
    worker.supervisor_lives, writing = server.life
    os.close(writing)
    for listener in server.LISTENERS:
        if listener not in worker.sockets:
            listener.close()


def _nworkers_changed(server: Any, number: int, _before: int | None) -> None:  # noqa: ANN401 gunicorn has no types
    """Refuse fewer workers than sockets (SIGTTOU): connections to a socket without a worker would never be accepted."""
    if number < server.cfg.workers:
        server.num_workers = server.cfg.workers


def _child_exit(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Remove the state and the gauges of an ended worker. Its counters stay."""
    try:
        server.records.retire(worker.number)
    except OSError as error:
        log.configure(server.app.settings.log_level).error("metrics.not_shared", worker=worker.number, error=error)


def _when_ready(_server: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Deliver the signals that arrived while this process became a supervisor."""
    let_through()
