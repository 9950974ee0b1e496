"""Listening, for one process and for several workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from receiver.settings import Settings

#: Connections that wait to be accepted.
BACKLOG: Final = 1024


def authority(host: str, port: int) -> str:
    """Return host and port as in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_listen(settings: Settings, error: OSError) -> ReceiverError:
    """Return the error of a failed bind, with the fix."""
    reason = error.strerror or error
    return ReceiverError(
        f"cannot listen on {authority(settings.host, settings.port)}: {reason}. Set PORT or RECEIVER_HOST."
    )
