"""What one process and several workers have in common when they listen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from receiver.settings import Settings

#: Connections that wait to be accepted.
BACKLOG: Final = 1024


def authority(host: str, port: int) -> str:
    """Return the two as they stand in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_listen(settings: Settings, error: OSError) -> ReceiverError:
    """Return what to tell who started the service."""
    reason = error.strerror or error
    return ReceiverError(
        f"cannot listen on {authority(settings.host, settings.port)}: {reason}. Set PORT or RECEIVER_HOST."
    )
