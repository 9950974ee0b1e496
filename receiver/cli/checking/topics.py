"""Findings about the topics: a key of another type takes no events, whatever the state of its Redis."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from receiver.cli.checking.findings import Finding, error
from receiver.cli.connections import load_overrides
from receiver.redis_client import by_primary, on
from receiver.routing import Routing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.redis_client import Client
    from receiver.settings import Settings

#: Types of a key that takes events, as Redis names them.
_FIT: Final = (b"stream", b"none")


async def topics(client: Client, settings: Settings) -> list[Finding]:
    """Find the topics and quarantines that are not streams. Skip a primary that is away: ``redis`` reports it."""
    routing = Routing(settings.projects.values())
    findings: list[Finding] = []
    with suppress(RedisError, OSError):
        await load_overrides(client, routing)
        for own in by_primary(client, routing.topics({})):
            with suppress(RedisError, OSError):
                findings += [_refuses(topic, kind) for topic, kind in await _types(client, own) if kind not in _FIT]
    return findings


async def _types(client: Client, keys: list[str]) -> Iterable[tuple[str, bytes]]:
    """Return the type of each key of one primary."""
    async with on(client, keys[0]).pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        return zip(keys, await pipe.execute(), strict=True)


def _refuses(topic: str, kind: bytes) -> Finding:
    what = f"{topic} is a {kind.decode()}, not a stream: it takes no events, and they stay in the spool."
    return error("topics", what, f"redis-cli RENAME {topic} {{{topic}}}:aside. The spool drains within a minute.")
