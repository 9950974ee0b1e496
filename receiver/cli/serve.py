"""``receiver serve``: run the service until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from typing import TYPE_CHECKING, Final

import click
import uvloop
from aiohttp import web

from receiver import log
from receiver.app import OPS, create_app, create_runner
from receiver.cli.beside import add_index
from receiver.cli.listening import BACKLOG, cannot_listen
from receiver.cli.workers import become_supervisor
from receiver.embedded import EmbeddedValkey
from receiver.settings import described, read_settings, unknown_names

if TYPE_CHECKING:
    from receiver.log import Logger
    from receiver.settings import Settings

_HELP: Final = "\b\nSettings (environment):\n" + "\n".join(
    f"  {name:<28} {text}" + (f" [{default}]" if default else "") for name, default, text in described()
)


@click.command(epilog=_HELP)
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes; one a core is a good choice.")
def serve(workers: int | None) -> None:
    """Run the service.

    Without REDIS_URL it starts its own Valkey, with its data under RECEIVER_DATA_DIR.
    """
    settings = read_settings(os.environ)
    if workers is not None:
        settings = dataclasses.replace(settings, workers=workers)
    logger = log.configure(settings.log_level)
    for sentence in unknown_names(os.environ):
        logger.warning("settings.unknown", problem=sentence)
    if settings.redis_url is not None:
        _run(settings, settings.redis_url, logger)
        return
    valkey = EmbeddedValkey(settings.data_dir / "valkey", settings.embedded_port, logger)
    valkey.start()
    try:
        _run(settings, valkey.url, logger)
    finally:
        valkey.stop()


def _run(settings: Settings, redis_url: str, logger: Logger) -> None:
    if settings.workers > 1:
        become_supervisor(settings, redis_url)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, redis_url, logger))


async def _serve(settings: Settings, redis_url: str, logger: Logger) -> None:
    app = create_app(settings, redis_url)
    add_index(app, settings, redis_url, logger)
    stop: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def stop_for(reason: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(reason)

    for reason in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(reason, stop_for, reason)
    runner = create_runner(app, settings)
    try:
        await runner.setup()
        await _listen(runner, settings)
        logger.info("service.listening", url=f"http://{settings.host}:{settings.port}", redis=redis_url)
        reason = await stop
        logger.info("service.stopping", signal=reason.name)
        app[OPS].stopping = True
        if reason is signal.SIGTERM:  # a person at Ctrl-C need not wait for a load balancer to notice
            await asyncio.sleep(settings.stop_delay)
    finally:
        await runner.cleanup()
        logger.info("service.stopped")


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG).start()
    except OSError as error:
        raise cannot_listen(settings, error) from None
