"""How commands reach the service's Redis, and the one sentence they say when they cannot."""

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
#: Seconds for Redis to answer a command of ours.
REDIS_TIMEOUT: Final = 5.0
#: redis-py's "Error 111 connecting to host:port. " before what the system said.
_PREFIX: Final = re.compile(r"^Error -?\d+ connecting to .+?(?<=[\w\]])\. (?:Connect call failed.*)?")


class RedisAwayError(ReceiverError):
    """Redis cannot be reached, or does not answer. Trying again may help."""

    code = "redis_away"


class RedisRefusedError(ReceiverError):
    """Redis answered, and the answer was no. Trying again does not help."""

    code = "redis_refused"


def redis_url(settings: Settings) -> str:
    """Return the URL of the service's Redis: the configured one, or that of its embedded Valkey.

    Raises EmbeddedError when the password of that one is not for us to read.
    """
    return settings.redis_url or embedded_url(settings.data_dir / "valkey", settings.embedded_port)


def shown(url: str) -> str:
    """Return a URL without what is secret in it: the password, and any query."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at:
        user = user.partition(":")[0] + (":***" if ":" in user else "")
    return urlunsplit((parts.scheme, user + at + host, parts.path, "", ""))


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Redis]:
    """Yield a client whose Redis has answered.

    What redis-py raises, here or in the body of the ``async with``, becomes a RedisAwayError or RedisRefusedError
    that says the mend and holds no password.
    """
    try:
        client = connect(redis_url(settings))
    except ValueError as error:
        raise RedisRefusedError(f"REDIS_URL is no URL of a Redis: {error}. Write redis://host:6379/0.") from None
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            await client.ping()
        yield client
    except (AuthenticationError, AuthorizationError) as error:
        raise RedisRefusedError(
            f"{_who(settings)} refuses our credentials: {error}. {_credentials(settings)}"
        ) from None
    except (LostError, SlowError, BusyLoadingError, OSError) as error:
        raise RedisAwayError(f"{_who(settings)} cannot be reached: {describe(error)}. {_mend(settings)}") from None
    except InvalidResponse as error:
        raise RedisRefusedError(f"{_who(settings)} is no Redis: {describe(error)}. Correct REDIS_URL.") from None
    except RedisError as error:
        raise RedisRefusedError(f"{_who(settings)} refused a command: {describe(error)}.") from None
    except WriteFailedError as error:
        raise RedisAwayError(f"{_who(settings)} does not take writes now: {describe(error)}.") from None
    finally:
        await client.aclose()


def describe(error: BaseException) -> str:
    """Return what an error says, without what redis-py puts around it."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {REDIS_TIMEOUT:g} s"
    text = str(error)
    return (_PREFIX.sub("", text) or "Connection refused").rstrip(".")


def configured_routing(projects: Iterable[Project]) -> Routing:
    """Return the configured routes of projects."""
    return Routing(projects)


async def load_overrides(client: Redis, routing: Routing) -> None:
    """Lay the routes that were set at run time over the configured ones."""
    await RouteOverrides(client, routing, log.configure("warning")).refresh()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def chosen_project(projects: Projects, wanted: str | None) -> Project:
    """Return the project that ``--project`` names, or the default one. Raises click.BadParameter."""
    project = projects.default if wanted is None else projects.get(wanted)
    if project is None:
        there = ", ".join(project.id for project in projects.values())
        why = "no project is the default one" if wanted is None else f"there is no project {wanted!r}"
        raise click.BadParameter(f"{why}; choose one of: {there}.", param_hint="--project")
    return project


def _who(settings: Settings) -> str:
    return f"Redis at {shown(redis_url(settings))}"


def _credentials(settings: Settings) -> str:
    if settings.redis_url is None:
        return (
            f"REDIS_URL is not set, so this is an embedded Valkey, but not that of {settings.data_dir}: run this where "
            "`receiver serve` runs, or set RECEIVER_DATA_DIR."
        )
    return "Correct REDIS_URL."


def _mend(settings: Settings) -> str:
    if settings.redis_url is None:
        return (
            f"REDIS_URL is not set, so this is the embedded Valkey of {settings.data_dir}: it is there while "
            "`receiver serve` runs there."
        )
    return "Start it, or correct REDIS_URL."
