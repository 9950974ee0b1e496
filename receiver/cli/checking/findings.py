"""What a check finds: the severity, the area, the problem, and its fix."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"  # good to know
    WARNING = "warning"  # works, and may hurt one day
    ERROR = "error"  # the service will not start, or will not keep its promises


class Finding(NamedTuple):
    """One sentence about one thing. ``fix`` is what to do about it, or next."""

    severity: Severity
    area: str
    what: str
    fix: str = ""


def ok(area: str, what: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(Severity.OK, area, what)


def note(area: str, what: str, fix: str = "") -> Finding:
    """Say something that is good to know."""
    return Finding(Severity.NOTE, area, what, fix)


def warning(area: str, what: str, fix: str) -> Finding:
    """Say what may hurt one day."""
    return Finding(Severity.WARNING, area, what, fix)


def error(area: str, what: str, fix: str) -> Finding:
    """Say what does not work, or breaks a guarantee."""
    return Finding(Severity.ERROR, area, what, fix)
