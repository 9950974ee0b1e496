"""Findings about the replicas of a primary: what a fail-over to one of them loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.cli.checking.findings import Finding, error, note, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

_AREA: Final = "fail-over"


def failover(info: Mapping[str, Any], replicas: int, *, synced: bool) -> Finding:
    """Say what a primary, with RECEIVER_REPLICAS as it is, can lose. ``info`` is its answer to INFO.

    ``synced``: the service waits for the replicas' disks, as well as for their memory.
    """
    following = info.get("connected_slaves")
    if following is None:
        return note(
            _AREA, "How many replicas follow it cannot be told.", "Allow its user INFO to see what can be lost."
        )
    count = "1 replica follows" if following == 1 else f"{following} replicas follow"
    if following < replicas:
        return error(
            _AREA,
            f"RECEIVER_REPLICAS is {replicas} and {count} it: every event goes to the spool until more do.",
            f"Start the missing ones, or set RECEIVER_REPLICAS={following}.",
        )
    if following == 0:
        return note(
            _AREA,
            "No replica follows it: the loss of its disk is the loss of all events in it.",
            "With a replica and RECEIVER_REPLICAS=1 the acknowledged ones survive that.",
        )
    if following > replicas:
        which = "its new primary" if replicas == 0 else "one of those that are not waited for"
        return warning(
            _AREA,
            f"{count} it and RECEIVER_REPLICAS is {replicas}: "
            f"a fail-over loses acknowledged events that {which} has not received.",
            f"Set RECEIVER_REPLICAS={following}; 0 is right for a service that replies once its replicas have a write.",
        )
    if synced:
        return ok(_AREA, f"{count} it and must have each event on disk: neither a fail-over nor a power cut loses any.")
    return ok(_AREA, f"{count} it and must have each event in memory: only the loss of all machines at once loses any.")
