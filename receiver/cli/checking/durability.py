"""Findings about what Redis keeps of acknowledged events: on its disk, in its memory, on its replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from receiver.cli.checking.failover import failover
from receiver.cli.checking.findings import Finding, error, note, ok, warning
from receiver.cli.connections import describe
from receiver.cli.redis_refusals import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

_PERSIST: Final = "redis-cli CONFIG SET {} {}, and `{} {}` in its configuration file."
#: WAITAOF came with it.
_WAITS_FOR_DISKS: Final = (7, 2)
#: Share of maxmemory from which it is time to act.
_MUCH: Final = 0.8


async def durability(client: Redis, info: dict[str, Any], replicas: int) -> list[Finding]:
    """Find out whether Redis keeps what it has acknowledged. ``info`` is its INFO, or empty.

    ``replicas``: for how many of them the service waits.
    """
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
    fsync = config.get("appendfsync")
    findings += _persistence(appends, fsync)
    if info.get("aof_last_write_status", "ok") != "ok":
        findings.append(error("durability", "Its last write to the append-only file failed.", "Look at its disk."))
    policy = config.get("maxmemory-policy", info.get("maxmemory_policy"))
    most = config.get("maxmemory", info.get("maxmemory"))
    findings += _eviction(policy)
    findings += _memory(None if most is None else int(most), info)
    synced = (appends, fsync) == ("yes", "always") and version_of(info) >= _WAITS_FOR_DISKS
    return [*findings, failover(info, replicas, synced=synced)]


def version_of(info: dict[str, Any]) -> tuple[int, ...]:
    """Return the version of Redis that a server claims to be; empty if it sends none."""
    return tuple(int(part) for part in str(info.get("redis_version", "")).split(".")[:2] if part.isdigit())


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


def _eviction(policy: str | None) -> Iterator[Finding]:
    if policy is not None and policy != "noeviction":
        yield error(
            "memory",
            f"maxmemory-policy is {policy}: when memory runs short, Redis may delete whole streams.",
            _PERSIST.format("maxmemory-policy", "noeviction", "maxmemory-policy", "noeviction"),
        )
    elif policy is not None:
        yield ok("memory", "It evicts nothing (maxmemory-policy noeviction).")


def _memory(most: int | None, info: dict[str, Any]) -> Iterator[Finding]:
    """Compare the memory in use with its limit; without a limit, with the memory of the machine."""
    used = info.get("used_memory")
    if used is None or most is None:
        return
    if most == 0:
        machine = info.get("total_system_memory")
        of = f" of its machine's {_mib(machine)}" if machine else ""
        yield warning(
            "memory",
            f"It uses {_mib(used)}{of}. maxmemory is not set: a Redis that grows too large is killed by the system.",
            "Set it to three quarters of its machine's memory: past it, events go to the spool. "
            + _PERSIST.format("maxmemory", _three_quarters(machine), "maxmemory", _three_quarters(machine)),
        )
        return
    share = used / most
    what = f"It uses {_mib(used)} of {_mib(most)} ({share:.0%} of maxmemory)."
    if share < _MUCH:
        yield ok("memory", what)
    else:
        yield (error if share >= 1 else warning)("memory", what, REFUSALS["OOM"].fix)


def _three_quarters(machine: int | None) -> str:
    return f"{machine * 3 // 4 >> 20}mb" if machine else "6gb"


def _mib(number: int) -> str:
    return f"{number / (1 << 20):,.0f} MiB"
