"""Findings about the configuration and the disk of this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from receiver.cli.checking.callbacks import callbacks
from receiver.cli.checking.findings import Finding, error, note, ok, warning
from receiver.errors import SettingsError
from receiver.runtime.private import exposed
from receiver.runtime.sockets import authority
from receiver.settings import Settings, read_settings, unknown_names
from receiver.spool.directory import spool_files
from receiver.spool.errors import is_disk_fault
from receiver.spool.status import statuses
from receiver.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from receiver.projects import Project

#: Seconds. A shorter retention is most likely a number that lacks its unit.
_SHORT_RETENTION: Final = 3600
#: Fewer characters than this can be guessed, or found in a list.
_LEAST_SECRET: Final = 16
#: What the rest of the check needs; with the other settings wrong it still says what it can.
_ESSENTIAL: Final = (
    "REDIS_URL",
    "RECEIVER_DATA_DIR",
    "RECEIVER_EMBEDDED_PORT",
    "RECEIVER_SPOOL_MAX_BYTES",
    "RECEIVER_DEDUPE_WINDOW",
    "RECEIVER_REPLICAS",
    "RECEIVER_CONFIG",
)
_GIB: Final = 1 << 30


def configuration(environ: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    """Return the settings, or as much of them as is right, and every mistake in them."""
    findings = [
        warning("settings", sentence, "Correct the name, or unset it: it has no effect.")
        for sentence in unknown_names(environ)
    ]
    try:
        settings = read_settings(environ)
    except SettingsError as mistakes:
        wrong = [error("settings", problem, "The service does not start with it.") for problem in mistakes.problems]
        return _rest(environ), findings + wrong
    number = len(list(settings.projects.values()))
    findings.append(ok("settings", f"All settings are valid; {number} project{'s' if number > 1 else ''}."))
    if settings.retention < _SHORT_RETENTION:
        what = f"RECEIVER_RETENTION is {duration(settings.retention)}: replays and quarantines reach back no further."
        findings.append(warning("settings", what, "Write a unit, as in 72h: a bare number counts seconds."))
    if settings.projects.default is None:
        what = "No project is the default: /sms/callback without the id of a project gets 404."
        findings.append(note("settings", what, "Mark one with default = true, if a provider posts there."))
    findings += [finding for project in settings.projects.values() for finding in _secrets(project, settings)]
    return settings, [*findings, *callbacks(settings)]


def _rest(environ: Mapping[str, str]) -> Settings:
    rest: dict[str, str] = {}
    for name in _ESSENTIAL:
        try:
            read_settings({**rest, name: environ.get(name, "")}, secrets=False)
        except SettingsError:
            continue
        rest[name] = environ.get(name, "")
    return read_settings(rest, secrets=False)


def _secrets(project: Project, settings: Settings) -> Iterator[Finding]:
    area = f"project {project.id}"
    if project.open_to_callbacks:
        place = authority(settings.host, settings.port)
        what = f"Anybody who reaches {place} may post callbacks: there are no callback_keys."
        fix = "Give the project callback_keys in the file that RECEIVER_CONFIG names."
        yield warning(area, what, fix) if settings.allow_open else note(area, what, fix)
    kinds: dict[str, tuple[str, ...]] = {
        "callback_keys": project.callback_keys,
        "tokens": project.tokens,
        "access_keys": tuple(project.access_keys.values()),
        "users": tuple(project.users.values()),
    }
    for kind, secrets in kinds.items():
        short = sum(len(secret) < _LEAST_SECRET for secret in secrets)
        if short:
            yield warning(
                area,
                f"{short} of the {kind} {'has' if short == 1 else 'have'} fewer than {_LEAST_SECRET} characters.",
                "Make a longer one: python -c 'import secrets; print(secrets.token_urlsafe(24))'",
            )


def disk(settings: Settings) -> Iterator[Finding]:
    """Look at the folder of the spool: can it be written to, and how much goes in."""
    folder = settings.data_dir / "spool"
    yield from _as_root(settings.data_dir)
    there = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(there).free
    except OSError as problem:
        if is_disk_fault(problem):
            consequence, fix = "callbacks are refused when Redis goes away", "Free some disk, or replace it."
        else:
            consequence = "the service does not start"
            fix = f"Set RECEIVER_DATA_DIR to a folder of the service's own user; it is {settings.data_dir.absolute()}."
        yield error("spool", f"{there} cannot be written to: {problem.strerror}; {consequence}.", fix)
        return
    if exposed(settings.data_dir):
        yield warning(
            "spool",
            f"Other users of this machine have rights to {settings.data_dir}, which holds phone numbers.",
            "Start the service: it takes them away.",
        )
    yield ok("spool", f"{folder} {'can be written to' if there == folder else 'can be created'}.")
    yield from _parked(folder)
    if free < settings.spool_max_bytes:
        yield warning(
            "spool",
            f"{free / _GIB:.1f} GiB of disk are free, the spool may grow to {settings.spool_max_bytes / _GIB:.1f} GiB.",
            "Free some disk, or lower RECEIVER_SPOOL_MAX_BYTES.",
        )
    else:
        yield ok(
            "spool", f"{free / _GIB:.0f} GiB of disk are free; it may use {settings.spool_max_bytes / _GIB:.1f} GiB."
        )


def _as_root(data_dir: Path) -> Iterator[Finding]:
    with suppress(OSError, KeyError):  # no folder yet, or an owner without a name, as in a container
        if os.geteuid() == 0 and (owner := data_dir.owner()) != "root":
            what = f"Root may read what {owner}, to whom the data folder belongs, may not: secrets, for example."
            yield note("settings", what, f"Check as the user of the service: runuser -u {owner} -- receiver check …")


def _parked(folder: Path) -> Iterator[Finding]:
    """Look for events that Redis would take if their topics did."""
    with suppress(OSError):  # the folder of another user, or none yet
        parked = sum(one.parked for one in statuses(spool_files(folder)))
        if parked:
            what = f"{parked:,} events stay on disk because their topics refuse them."
            yield warning(
                "spool", what, "`receiver spool status` names the topics, spool.topic_blocked in the log why."
            )


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest above it that is there: a check creates nothing."""
    path = folder.absolute()
    with suppress(PermissionError):  # it is there, for another user
        while not path.is_dir() and path != path.parent:
            path = path.parent
    return path if path != folder.absolute() else folder
