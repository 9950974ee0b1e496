"""A worker of ``receiver serve --workers N``, which the supervisor forks: serves the application, and stops in time.

It overrides undocumented methods of gunicorn's and aiohttp's worker (``init_signals``, ``handle_exit``,
``handle_quit``): they decide how a worker stops, and neither library has a hook for it. tests/test_dependencies.py
checks that they exist.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from aiohttp import web  # noqa: TC002 the annotation of a class attribute
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.glogging import Logger

from receiver import log
from receiver.app import DELIVERY, OPS, create_app, create_runner
from receiver.runtime.index_process import add_index
from receiver.runtime.signals import Deadline, let_through, longest_stop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from receiver.peers import Peers
    from receiver.settings import Settings


class Worker(GunicornUVLoopWebWorker):
    """A worker whose /readyz answers 503 before it stops."""

    app_of_this_process: web.Application | None = None
    #: The end of a pipe whose other end is open as long as the supervisor lives.
    supervisor_lives: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 gunicorn's
        super().__init__(*args, **kwargs)
        self._deadline = Deadline()

    def init_signals(self) -> None:
        """Handle signals, and watch the supervisor's pipe: a killed supervisor sends no signal."""
        super().init_signals()
        self.loop.add_reader(self.supervisor_lives, self._orphaned)

    def run(self) -> None:
        """Serve until a signal stops the worker."""
        try:
            super().run()
        finally:
            self._deadline.leave()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: /readyz answers 503 at once, the listening socket closes after RECEIVER_STOP_DELAY."""
        self._begin_to_stop()
        # handle_quit is graceful as well, and does not wait for the worker's next check of its state.
        self.loop.call_later(self.app.settings.stop_delay, self.handle_quit, sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Stop without the delay. Requests in flight are finished."""
        self._begin_to_stop()
        super().handle_quit(sig, frame)

    def _begin_to_stop(self) -> None:
        self._deadline.seconds = longest_stop(self.app.settings)
        self._deadline.begin()
        if self.app_of_this_process is not None:
            self._deadline.unfinished = self.app_of_this_process[DELIVERY].unfinished
            self.app_of_this_process[OPS].stopping = True

    def _orphaned(self) -> None:
        """Stop without the delay: the next service needs the port."""
        self.loop.remove_reader(self.supervisor_lives)
        self.log.error("The supervisor has ended: this worker stops")
        self.handle_quit(signal.SIGQUIT, None)


class ServiceLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Sends gunicorn's log lines through our log configuration."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 gunicorn has no types
        """Propagate to the root logger."""
        super().setup(cfg)
        log.configure(cfg.loglevel)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


async def serve(settings: Settings, environ: Mapping[str, str], peers: Peers) -> web.AppRunner:
    """Return the runner of a worker. ``environ`` has the variables of the service, with the URL of its Redis."""
    let_through()  # not earlier: uvloop loses signals that arrive before its loop runs
    app = create_app(settings, environ["REDIS_URL"], peers)
    add_index(app, settings, environ, log.configure(settings.log_level))
    Worker.app_of_this_process = app
    return create_runner(app, settings)
