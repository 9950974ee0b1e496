"""``receiver serve``: run the service until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from typing import TYPE_CHECKING, Final, NamedTuple

import click
from aiohttp import web

from receiver import log
from receiver.app import DELIVERY, OPS, create_app, create_runner
from receiver.cli.environment import Environment, with_environment
from receiver.descriptors import connections_within_limit, raise_limit
from receiver.embedded import EmbeddedValkey
from receiver.errors import ReceiverError
from receiver.redis_url import shown
from receiver.runtime.index_process import add_index
from receiver.runtime.prefork import supervise
from receiver.runtime.private import keep_private
from receiver.runtime.reload import add_reload
from receiver.runtime.signals import BoundedLoop, StopSignals, longest_stop
from receiver.runtime.sockets import BACKLOG, addresses
from receiver.runtime.valkey_watchdog import add_watch
from receiver.settings import described, unknown_names

if TYPE_CHECKING:
    from receiver.log import Logger
    from receiver.settings import Settings

_HELP: Final = "\b\nSettings (environment):\n" + "\n".join(
    f"  {name:<28} {text}" + (f" [{default}]" if default else "") for name, default, text in described()
)


@click.command(epilog=_HELP)
@click.option("--workers", type=click.IntRange(1, 64), help="Worker processes; one per core is a good choice.")
@with_environment
def serve(environment: Environment, workers: int | None) -> None:
    """Run the service.

    Without REDIS_URL it starts an embedded Valkey, with its data in RECEIVER_DATA_DIR.
    """
    stopping = StopSignals()
    stopping.remember()
    settings = environment.settings(secrets=True)
    if workers is not None:
        settings = dataclasses.replace(settings, workers=workers)
    stopping.deadline.seconds = longest_stop(settings)
    # OpenTelemetry reads its variables itself, and knows no --env-file.
    os.environ.update({name: value for name, value in environment.variables.items() if name.startswith("OTEL_")})
    logger = log.configure(settings.log_level)
    for sentence in unknown_names(environment.variables):
        logger.warning("settings.unknown", problem=sentence)
    _raise_limit(settings, logger)
    keep_private(settings.data_dir, logger)
    if settings.redis_url is not None:
        _run(_Service(environment, settings, settings.redis_url, None, stopping, logger))
    else:
        _run_with_valkey(environment, settings, stopping, logger)
    stopping.deadline.leave()


def _run_with_valkey(environment: Environment, settings: Settings, stopping: StopSignals, logger: Logger) -> None:
    valkey = EmbeddedValkey(settings.data_dir / "valkey", settings.embedded_port, logger)
    try:
        valkey.start(lambda: stopping.asked)
        _run(_Service(environment, settings, valkey.url, valkey, stopping, logger))
    except ReceiverError:
        valkey.release()
        raise
    finally:
        stopping.remember()  # a second Ctrl-C must not leave Valkey running
        valkey.stop()


def _raise_limit(settings: Settings, logger: Logger) -> None:
    """Raise the soft limit of open files. Workers and the embedded Valkey inherit it."""
    limit = raise_limit(settings.max_connections)
    connections = connections_within_limit(settings.max_connections)
    if connections < settings.max_connections:
        advice = "raise the hard limit (ulimit -Hn, systemd's LimitNOFILE, Docker's --ulimit nofile)"
        logger.warning("descriptors.limit_low", limit=limit, connections=connections, advice=advice)


class _Service(NamedTuple):
    environment: Environment
    settings: Settings
    redis_url: str
    valkey: EmbeddedValkey | None
    stopping: StopSignals
    logger: Logger


def _run(service: _Service) -> None:
    if service.settings.workers > 1:
        supervise(service.environment, service.settings, service.redis_url, service.valkey, service.stopping)
        return
    loop = BoundedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_serve(service))
        loop.finished = service.valkey is None  # an embedded Valkey has still to be stopped, and has no name to look up


async def _serve(service: _Service) -> None:
    environment, settings, redis_url, valkey, stopping, logger = service
    app = create_app(settings, redis_url)
    add_index(app, settings, {**environment.variables, "REDIS_URL": redis_url}, logger)
    if valkey is not None:
        add_watch(app, valkey)
    stop: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def stop_for(reason: signal.Signals) -> None:
        app[OPS].stopping = True
        if not stop.done():
            stop.set_result(reason)

    stopping.deadline.unfinished = app[DELIVERY].unfinished
    reload = add_reload(app, environment, settings, logger)
    stopping.hand_over(stop_for, reload)
    runner = create_runner(app, settings)
    try:
        await runner.setup()
        await _listen(runner, settings)
        for address in addresses(settings):
            logger.info("service.listening", url=address.url, redis=shown(redis_url))
        reason = await stop
        logger.info("service.stopping", signal=reason.name)
        if reason is signal.SIGTERM:  # with Ctrl-C there is no load balancer to wait for
            await asyncio.sleep(settings.stop_delay)
    finally:
        await runner.cleanup()
        logger.info("service.stopped")


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    for address in addresses(settings):
        try:
            await web.TCPSite(runner, address.host, address.port, backlog=BACKLOG).start()
        except OSError as error:
            raise address.cannot_listen(error) from None
