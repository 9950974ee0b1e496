"""Connects commands to the service's Redis, with one-line errors that include the fix."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import click
import uvloop
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as LostError,
)
from redis.exceptions import (
    TimeoutError as SlowError,
)

from receiver import log
from receiver.delivery.publisher import connect
from receiver.embedded import embedded_url
from receiver.errors import ReceiverError, WriteFailedError
from receiver.route_overrides import RouteOverrides
from receiver.routing import Routing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable

    from redis.asyncio import Redis

    from receiver.projects import Project, Projects
    from receiver.settings import Settings

T = TypeVar("T")
#: Seconds for Redis to answer.
REDIS_TIMEOUT: Final = 5.0
#: redis-py's prefix of the system's message: "Error 111 connecting to host:port. ".
_PREFIX: Final = re.compile(r"^Error -?\d+ connecting to .+?(?<=[\w\]])\. (?:Connect call failed.*)?")


class RedisAwayError(ReceiverError):
    """Redis cannot be reached, or does not answer. A retry may help."""

    code = "redis_away"


class RedisRefusedError(ReceiverError):
    """Redis refused the connection or a command. A retry does not help."""

    code = "redis_refused"


def redis_url(settings: Settings) -> str:
    """Return the URL of the service's Redis: the configured one, or that of the embedded Valkey.

    Raises EmbeddedError if this user cannot read the password of the embedded Valkey.
    """
    return settings.redis_url or embedded_url(settings.data_dir / "valkey", settings.embedded_port)


def shown(url: str) -> str:
    """Return a URL without its password and query."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at:
        user = user.partition(":")[0] + (":***" if ":" in user else "")
    return urlunsplit((parts.scheme, user + at + host, parts.path, "", ""))


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Redis]:
    """Yield a client whose Redis has answered a PING.

    Exceptions of redis-py, also in the body of the ``async with``, become RedisAwayError or RedisRefusedError. Their
    messages include the fix and no password.
    """
    try:
        client = connect(redis_url(settings))
    except ValueError as error:
        raise RedisRefusedError(f"REDIS_URL is not a Redis URL: {error}. Write redis://host:6379/0.") from None
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            await client.ping()
        yield client
    except (AuthenticationError, AuthorizationError) as error:
        raise RedisRefusedError(
            f"{_server(settings)} refuses our credentials: {error}. {_credentials_advice(settings)}"
        ) from None
    except (LostError, SlowError, BusyLoadingError, OSError) as error:
        raise RedisAwayError(
            f"{_server(settings)} cannot be reached: {describe(error)}. {_connection_advice(settings)}"
        ) from None
    except InvalidResponse as error:
        raise RedisRefusedError(
            f"{_server(settings)} is not a Redis server: {describe(error)}. Correct REDIS_URL."
        ) from None
    except RedisError as error:
        raise RedisRefusedError(f"{_server(settings)} refused a command: {describe(error)}.") from None
    except WriteFailedError as error:
        raise RedisAwayError(f"{_server(settings)} does not accept writes now: {describe(error)}.") from None
    finally:
        await client.aclose()


def describe(error: BaseException) -> str:
    """Return an error's message without redis-py's prefix."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {REDIS_TIMEOUT:g} s"
    text = str(error)
    return (_PREFIX.sub("", text) or "Connection refused").rstrip(".")


def configured_routing(projects: Iterable[Project]) -> Routing:
    """Return the configured routes of projects."""
    return Routing(projects)


async def load_overrides(client: Redis, routing: Routing) -> None:
    """Apply the routes that were set at run time."""
    await RouteOverrides(client, routing, log.configure("warning")).refresh()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def chosen_project(projects: Projects, project_id: str | None) -> Project:
    """Return the project of the option ``--project``, or the default one. Raises click.BadParameter."""
    project = projects.default if project_id is None else projects.get(project_id)
    if project is None:
        ids = ", ".join(project.id for project in projects.values())
        reason = "no project is the default" if project_id is None else f"there is no project {project_id!r}"
        raise click.BadParameter(f"{reason}; choose one of: {ids}.", param_hint="--project")
    return project


def _server(settings: Settings) -> str:
    return f"Redis at {shown(redis_url(settings))}"


def _credentials_advice(settings: Settings) -> str:
    if settings.redis_url is None:
        return (
            f"REDIS_URL is not set, so this is an embedded Valkey, but not that of {settings.data_dir}: run this "
            "in the folder of `receiver serve`, or set RECEIVER_DATA_DIR."
        )
    return "Correct REDIS_URL."


def _connection_advice(settings: Settings) -> str:
    if settings.redis_url is None:
        return (
            f"REDIS_URL is not set, so this is the embedded Valkey of {settings.data_dir}: it runs only while "
            "`receiver serve` runs."
        )
    return "Start it, or correct REDIS_URL."
