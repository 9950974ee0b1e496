"""A worker of ``receiver serve --workers N``: what it serves, and how it stops. The supervisor forks it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aiohttp import web  # noqa: TC002 the annotation of a class attribute that gunicorn's machinery inspects
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.glogging import Logger

from receiver import log
from receiver.app import OPS, create_app, create_runner
from receiver.runtime.index_process import add_index
from receiver.runtime.prefork import EMBEDDED_URL
from receiver.runtime.signals import let_through

if TYPE_CHECKING:
    from types import FrameType

    from receiver.peers import Peers
    from receiver.settings import Settings


class Worker(GunicornUVLoopWebWorker):
    """A worker that says that it is not ready before it stops."""

    app_of_this_process: web.Application | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: /readyz turns 503 at once, the listening socket is closed after the delay."""
        if self.app_of_this_process is not None:
            self.app_of_this_process[OPS].stopping = True
        # Which is graceful all the same, and does not wait for the worker's next look at the clock.
        self.loop.call_later(self.app.settings.stop_delay, self.handle_quit, sig, frame)


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
