"""A worker of ``receiver serve --workers N``: what it serves, and how it stops. The supervisor forks it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from aiohttp import web  # noqa: TC002 the annotation of a class attribute that gunicorn's machinery inspects
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.glogging import Logger

from receiver import log
from receiver.app import DELIVERY, OPS, create_app, create_runner
from receiver.runtime.index_process import add_index
from receiver.runtime.prefork import EMBEDDED_URL
from receiver.runtime.signals import Deadline, let_through, longest_stop

if TYPE_CHECKING:
    from types import FrameType

    from receiver.peers import Peers
    from receiver.settings import Settings


class Worker(GunicornUVLoopWebWorker):
    """A worker that says that it is not ready before it stops."""

    app_of_this_process: web.Application | None = None
    #: A pipe that the supervisor holds open as long as it lives.
    supervisor_lives: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 gunicorn's
        """Be made, by the supervisor."""
        super().__init__(*args, **kwargs)
        self._deadline = Deadline()

    def init_signals(self) -> None:
        """Listen to signals, and to the end of the supervisor: one that is killed cannot send any."""
        super().init_signals()
        self.loop.add_reader(self.supervisor_lives, self._orphaned)

    def run(self) -> None:
        """Serve until asked to stop."""
        try:
            super().run()
        finally:
            self._deadline.leave()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: /readyz turns 503 at once, the listening socket is closed after the delay."""
        self._begin_to_stop()
        # Which is graceful all the same, and does not wait for the worker's next look at the clock.
        self.loop.call_later(self.app.settings.stop_delay, self.handle_quit, sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Stop without a delay; requests in flight are finished all the same."""
        self._begin_to_stop()
        super().handle_quit(sig, frame)

    def _begin_to_stop(self) -> None:
        self._deadline.seconds = longest_stop(self.app.settings)
        self._deadline.begin()
        if self.app_of_this_process is not None:
            self._deadline.unfinished = self.app_of_this_process[DELIVERY].unfinished
            self.app_of_this_process[OPS].stopping = True

    def _orphaned(self) -> None:
        """Stop without a delay: the service that takes over wants the port."""
        self.loop.remove_reader(self.supervisor_lives)
        self.log.error("The supervisor has ended: this worker stops")
        self.handle_quit(signal.SIGQUIT, None)


class ServiceLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Sends gunicorn's own words the way of all our log lines."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 gunicorn has no types
        """Hand over to the root logger."""
        super().setup(cfg)
        log.configure(cfg.loglevel)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


async def serve(settings: Settings, peers: Peers) -> web.AppRunner:
    """Return what a worker serves."""
    let_through()  # not before: uvloop loses signals that reach a loop which does not run yet
    redis_url = os.environ.get(EMBEDDED_URL) or str(settings.redis_url)
    app = create_app(settings, redis_url, peers)
    add_index(app, settings, redis_url, log.configure(settings.log_level))
    Worker.app_of_this_process = app
    return create_runner(app, settings)
