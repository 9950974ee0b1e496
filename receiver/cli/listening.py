"""What one process and several workers have in common when they listen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from receiver.settings import Settings

#: Connections that wait to be accepted.
BACKLOG: Final = 1024


def cannot_listen(settings: Settings, error: OSError) -> ReceiverError:
    """Return what to tell who started the service."""
    reason = error.strerror or error
    return ReceiverError(f"cannot listen on {settings.host}:{settings.port}: {reason}. Set PORT or RECEIVER_HOST.")
