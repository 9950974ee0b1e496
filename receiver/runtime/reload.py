"""Reads the files of the projects again on SIGHUP, in a single process. A supervisor replaces its workers instead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from receiver import metrics
from receiver.app import INDEX_WANTED, RELOAD
from receiver.runtime.index_process import looks_up
from receiver.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from receiver.environment import Environment
    from receiver.log import Logger
    from receiver.settings import Settings


def add_reload(
    app: web.Application, environment: Environment, settings: Settings, logger: Logger
) -> Callable[[], None]:
    """Return a function that asks the application to reload. Requests during a reload make one more."""
    asked = asyncio.Event()

    async def reload_when_asked() -> None:
        while await asked.wait():
            asked.clear()
            try:
                outcome = await _reload(app, environment, settings, logger)
            except Exception:  # any: without this task every later reload would do nothing, without a word
                outcome = metrics.RELOAD_FAILED
                logger.exception("settings.not_reloaded")
            metrics.RELOADS.labels(outcome).inc()
            metrics.LAST_RELOAD_REFUSED.set(outcome != metrics.RELOADED)

    async def reloading(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(reload_when_asked(), name="reload")
        yield
        await cancel_and_wait(task)

    app.cleanup_ctx.append(reloading)
    return asked.set


async def _reload(app: web.Application, environment: Environment, settings: Settings, logger: Logger) -> str:
    """Put the projects of the files in force, unless a file has a mistake. Return the outcome, as metrics count it."""
    projects = await asyncio.to_thread(environment.reload, logger, secrets=True)
    if projects is None:
        return metrics.RELOAD_REFUSED
    await app[RELOAD](projects)
    logger.info("settings.reloaded", projects=[*projects.by_id])
    if looks_up(settings.projects):
        app[INDEX_WANTED].set()
    return metrics.RELOADED
