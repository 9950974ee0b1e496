"""A gunicorn that runs our workers, run as a module: ``receiver serve --workers N`` becomes it.

It forks the workers, replaces those that die, and restarts them gracefully: SIGHUP replaces them one by one by workers
that know the projects as the file has them then, SIGTERM stops them in peace, and waits for no reload.
https://gunicorn.org/reference/settings/.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from receiver import log
from receiver.embedded import EmbeddedValkey
from receiver.errors import SettingsError
from receiver.peers import Peers, SharedRecords
from receiver.runtime import gunicorn_worker
from receiver.runtime.prefork import EMBEDDED_URL, LISTENERS
from receiver.runtime.signals import (
    Deadline,
    graceful_timeout,
    keep_pending,
    let_through,
    longest_stop_of_all,
)
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    from aiohttp import web

    from receiver.settings import Settings

#: Seconds until a worker that could not start is tried again.
_AGAIN: Final = 1.0
#: Where gunicorn has a file per worker, whose time tells that the worker lives: in memory, which no full disk affects.
_MEMORY: Final = "/dev/shm"  # noqa: S108 gunicorn makes the files with mkstemp
_ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class _EndAskedError(Exception):
    """The service has been asked to end while workers are replaced."""


class ReceiverArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Runs the workers of a service, and the embedded Valkey beside them."""

    def __init__(self, app: GunicornApplication) -> None:
        """Take what to run."""
        super().__init__(app)
        self.records = SharedRecords()
        self._start_again_at = 0.0
        #: Workers see the end of the one when the supervisor, which holds the other, ends in whatever way.
        self.life = os.pipe()
        self._deadline = Deadline()
        self._deadline.seconds = longest_stop_of_all(app.settings)
        self._end_asked = self._reloading = False
        self.valkey: EmbeddedValkey | None = None
        if EMBEDDED_URL in os.environ:
            settings, logger = app.settings, log.configure(app.settings.log_level)
            folder = settings.data_dir / "valkey"
            self.valkey = EmbeddedValkey(folder, settings.embedded_port, logger, started=True)

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; one that ends the service is not to wait for its turn."""
        if sig in _ENDS:
            self._end_asked = True
            self._deadline.begin()
        super().signal(sig, frame)

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Return the signals that came: the end alone if it is among them, and one reload for all that were asked."""
        came: list[int] = super().wait_for_signals(timeout)
        if ends := [number for number in came if number in _ENDS]:
            return ends[:1]
        return [number for place, number in enumerate(came) if number != signal.SIGHUP or number not in came[:place]]

    def spawn_worker(self) -> None:
        """Fork a worker; it takes signals once it has handlers of its own, and would lose those that come before."""
        keep_pending()
        try:
            super().spawn_worker()
        finally:
            let_through()

    def reap_workers(self) -> None:
        """Take note of workers that have ended. A start that fails ends the service only if none ever succeeded.

        Later on, the machine is at fault and other workers may still serve, so the start is tried again. A reload calls
        this while it waits for workers: it is given up when the service is to end.
        """
        while True:
            try:
                super().reap_workers()
            except HaltServer as failure:  # the workers that ended after this one wait to be reaped
                if not self._has_served():
                    raise
                self._start_again_at = time.monotonic() + _AGAIN
                logger = log.configure(self.app.settings.log_level)
                logger.error("worker.not_started", error=failure.reason)  # noqa: TRY400 the worker has logged the rest
            else:
                break
        if self._reloading and self._end_asked:
            raise _EndAskedError

    def _has_served(self) -> bool:
        """Tell whether a worker has ever started: its first report has counters, at 0."""
        return any(self.records.read(number).counters for number in self.records.numbers())

    def manage_workers(self) -> None:
        """Replace what has ended: gunicorn asks for it every second, but not any more when it stops."""
        if time.monotonic() >= self._start_again_at:
            super().manage_workers()
        if self.valkey is not None:
            self.valkey.look_after()

    def handle_hup(self) -> None:
        """Replace the workers by such that know what the file says now; nothing changes when it is wrong.

        The environment of a process does not change: port, number of workers and data folder stay as they are.
        """
        logger = log.configure(self.app.settings.log_level)
        try:
            self.app.settings = read_settings(os.environ)
        except SettingsError as mistakes:
            for problem in mistakes.problems:
                logger.error("settings.refused", problem=problem)  # noqa: TRY400 the sentence is all there is to say
            return
        logger.info("settings.reloaded", projects=[project.id for project in self.app.settings.projects.values()])
        self._reloading = True
        try:
            super().handle_hup()
        except _EndAskedError:
            logger.info("settings.reload_ended", reason="the service is to end")
        finally:
            self._reloading = False


class GunicornApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn calls the application: its configuration, and what its workers serve."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings that the next workers are to have."""
        self.settings = settings
        self.peers = Peers()
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what it has to know, at the start and at each reload."""
        for name, value in _configuration(self.settings).items():
            self.cfg.set(name, value)

    def load(self) -> Callable[[], Awaitable[web.AppRunner]]:
        """Return what a worker awaits to have what it serves."""
        return self._serve

    def run(self) -> None:
        """Supervise until the service is stopped."""
        ReceiverArbiter(self).run()

    async def _serve(self) -> web.AppRunner:
        return await gunicorn_worker.serve(self.settings, self.peers)


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        "bind": [f"fd://{number}" for number in os.environ[LISTENERS].split(",")],
        "workers": settings.workers,
        "worker_class": gunicorn_worker.Worker,
        "logger_class": gunicorn_worker.ServiceLogger,
        "timeout": 60,  # a worker whose event loop stands still for so long is replaced
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
        "on_exit": _on_exit,
    }


def _pre_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Give a worker a number and a socket of its own; while workers are replaced, its predecessor's socket."""
    worker.number = min(set(range(1, len(server.WORKERS) + 2)) - {other.number for other in server.WORKERS.values()})
    taken = Counter(other.sockets[0] for other in server.WORKERS.values())
    worker.sockets = [min(server.LISTENERS, key=taken.__getitem__)]


def _post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Tell a worker its number, and close what is not its own.

    The other workers' sockets would go on collecting connections when theirs end, and the supervisor's end of its pipe
    has to be the supervisor's alone.
    """
    server.app.peers = Peers(server.records, worker.number)
    worker.supervisor_lives, writing = server.life
    os.close(writing)
    for listener in server.LISTENERS:
        if listener not in worker.sockets:
            listener.close()


def _nworkers_changed(server: Any, number: int, _before: int | None) -> None:  # noqa: ANN401 gunicorn has no types
    """Refuse to have fewer workers than sockets (SIGTTOU): connections to the one without would wait for ever."""
    if number < server.cfg.workers:
        server.num_workers = server.cfg.workers


def _child_exit(server: Any, worker: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Forget the state and the gauges of a worker that is gone; its counts stay."""
    try:
        server.records.retire(worker.number)
    except OSError as error:
        log.configure(server.app.settings.log_level).error("metrics.not_shared", worker=worker.number, error=error)


def _when_ready(_server: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Take the signals that came while this process became a supervisor."""
    let_through()


def _on_exit(server: Any) -> None:  # noqa: ANN401 gunicorn has no types
    """Stop the embedded Valkey after the last worker."""
    if server.valkey is not None:
        server.valkey.stop()


if __name__ == "__main__":
    GunicornApplication(read_settings(os.environ)).run()
