"""Connects commands to the service's Redis, with one-line errors that include the fix."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import uvloop
from redis.exceptions import AskError, ClusterDownError, InvalidResponse, RedisError, TryAgainError
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as SlowError

from receiver import log
from receiver.cli.redis_refusals import MOVING_SLOT, READS_ON, code_of, refusal_of
from receiver.delivery.dedupe_window import window_in_force
from receiver.delivery.topology import topology
from receiver.embedded import embedded_url
from receiver.errors import EmbeddedError, ReceiverError, WriteFailedError
from receiver.redis_client import connect, open_client
from receiver.redis_connection import concerns_whole_redis
from receiver.redis_url import Kind, parse_redis_url, shown
from receiver.route_overrides import RouteOverrides

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from receiver.delivery.topology import Topology
    from receiver.redis_client import Client
    from receiver.routing import Routing
    from receiver.settings import Settings

T = TypeVar("T")
HOW_TO_FIND_THE_FOLDER: Final = (
    "Run this in the folder of `receiver serve`, or name its data folder with --data-dir or RECEIVER_DATA_DIR "
    "(--env-file reads the settings of a service)."
)
#: Replies of a cluster while a slot moves. MovedError is an AskError.
_MOVES: Final = (AskError, TryAgainError)
_CREDENTIALS: Final = ("NOAUTH", "WRONGPASS")
#: Seconds for Redis to answer.
REDIS_TIMEOUT: Final = 5.0
#: redis-py's prefix of the system's message: "Error 111 connecting to host:port. ".
_PREFIX: Final = re.compile(r"^Error -?\d+ connecting to .+?(?<=[\w\]])\. (?:Connect call failed.*)?")


class RedisFailedError(ReceiverError):
    """Redis cannot be used. ``fix`` is what to do, which the message ends with."""

    #: Whether it has answered, and refused.
    answers = False
    #: Whether a retry may help: Redis is away, a replica takes over, or a slot moves.
    passes = False

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. {fix}")
        self.what = what
        self.fix = fix


class RedisAwayError(RedisFailedError):
    """Redis cannot be reached, does not answer, or still loads its data. A retry may help."""

    code = "redis_away"
    passes = True


class RedisRefusedError(RedisFailedError):
    """Redis refused the connection or a command. A retry helps only if it ``passes``."""

    code = "redis_refused"


def redis_url(settings: Settings) -> str:
    """Return the URL of the service's Redis: the configured one, or that of the embedded Valkey.

    Raises EmbeddedError if there has never been an embedded Valkey in the data folder, or if this user cannot read its
    password.
    """
    if settings.redis_url is not None:
        return settings.redis_url
    if not has_valkey(settings):
        raise no_valkey(settings)
    return embedded_url(settings.data_dir / "valkey", settings.embedded_port)


def has_valkey(settings: Settings) -> bool:
    """Return whether an embedded Valkey has ever run in the data folder."""
    try:
        return (settings.data_dir / "valkey").is_dir()
    except PermissionError:  # it is there, for another user
        return True


def no_valkey(settings: Settings) -> EmbeddedError:
    """Return the error of a data folder without an embedded Valkey: most likely it is the wrong folder."""
    return EmbeddedError(
        f"REDIS_URL is not set, and there is no embedded Valkey in {settings.data_dir}. {HOW_TO_FIND_THE_FOLDER} For "
        "a Redis of your own, set REDIS_URL."
    )


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """Yield a client whose Redis has answered a PING.

    Exceptions of redis-py, also in the body of the ``async with``, become RedisAwayError or RedisRefusedError. Their
    messages include the fix and no password.
    """
    try:
        client = connect(redis_url(settings), timeout=REDIS_TIMEOUT)
    except ValueError as error:
        raise RedisRefusedError(f"REDIS_URL is not a Redis URL: {error}", "Write redis://host:6379/0.") from None
    try:
        await greet(client)
        yield client
    except (RedisError, WriteFailedError, OSError) as error:
        raise failure(settings, error) from None
    finally:
        await client.aclose()


async def greet(client: Client) -> None:
    """Wait until Redis answers. One that refuses writes, and PING with them, can still be read."""
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            await open_client(client)
            await client.ping()
    except RedisError as error:
        if code_of(error) not in READS_ON:
            raise


def failure(settings: Settings, error: RedisError | WriteFailedError | OSError) -> RedisFailedError:
    """Return an error of redis-py, or of a write, with what it means for the operator and the fix."""
    server, code = f"Redis at {shown(redis_url(settings))}", code_of(error)
    moves = isinstance(error, _MOVES) and parse_redis_url(redis_url(settings)).kind is Kind.CLUSTER
    refusal = MOVING_SLOT if moves else refusal_of(error)
    if refusal is not None:
        away = code == "LOADING" or isinstance(error, WriteFailedError)
        fix = _credentials_advice(settings) or refusal.fix if code in _CREDENTIALS else refusal.fix
        what = f"{server} {refusal.what} ({describe(error)})"
        found: RedisFailedError = RedisAwayError(what, fix) if away else RedisRefusedError(what, fix)
        found.answers = True
        found.passes = away or moves or isinstance(error, ClusterDownError) or concerns_whole_redis(error)
        return found
    if isinstance(error, WriteFailedError):
        return RedisAwayError(f"{server} does not accept writes now: {describe(error)}", "See its log.")
    if isinstance(error, InvalidResponse):
        return RedisRefusedError(f"{server} is not a Redis server: {describe(error)}", "Correct REDIS_URL.")
    if isinstance(error, LostError | SlowError | OSError):
        return RedisAwayError(f"{server} cannot be reached: {describe(error)}", _connection_advice(settings))
    refused = RedisRefusedError(f"{server} refused a command: {describe(error)}", "See its log.")
    refused.passes = concerns_whole_redis(error)
    return refused


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[Topology]:
    """Yield the primaries that take events. Use it inside ``connected``, which translates errors."""
    primaries = topology(redis_url(settings), settings, lambda: None, log.configure("error"))
    await primaries.open()
    try:
        yield primaries
    finally:
        await primaries.finish()
        await primaries.close()


async def with_window_in_force(client: Client, settings: Settings) -> Settings:
    """Return settings with the dedupe window of the services on this Redis: with another one, doubles get in.

    Tells the user if it is not that of the settings. Use it inside ``connected``.
    """
    found = await window_in_force(client)
    if found in (None, int(settings.dedupe_window)):
        return settings
    click.echo(f"receiver: RECEIVER_DEDUPE_WINDOW={found}s, which the service on this Redis has, is used.", err=True)
    return dataclasses.replace(settings, dedupe_window=found)


def describe(error: BaseException) -> str:
    """Return an error's message without redis-py's prefix; of a primary that is away, why it is."""
    while isinstance(error.__cause__, WriteFailedError):
        error = error.__cause__
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {REDIS_TIMEOUT:g} s"
    text = str(error)
    return (_PREFIX.sub("", text) or "Connection refused").rstrip(".")


async def load_overrides(client: Client, routing: Routing) -> None:
    """Apply the routes that were set at run time."""
    await RouteOverrides(client, routing, log.configure("warning")).refresh()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _credentials_advice(settings: Settings) -> str | None:
    """Return how to find the embedded Valkey that belongs to the port, or None for a Redis of the operator's."""
    if settings.redis_url is not None:
        return None
    return f"It is an embedded Valkey, but not that of {settings.data_dir}. {HOW_TO_FIND_THE_FOLDER}"


def _connection_advice(settings: Settings) -> str:
    if settings.redis_url is None:
        return (
            f"REDIS_URL is not set, so this is the embedded Valkey of {settings.data_dir}: it runs only while "
            "`receiver serve` runs."
        )
    return "Start it, or correct REDIS_URL."
