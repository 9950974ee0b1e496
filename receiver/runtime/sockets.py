"""Listening, for one process and for several workers."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from receiver.settings import Settings

#: Connections that wait to be accepted.
BACKLOG: Final = 1024
#: What keeps a socket from being bound, by errno.
_CAUSES: Final = {
    errno.EADDRINUSE: "`ss -ltnp` shows the program that does. ",
    errno.EACCES: "Ports below 1024 need a proxy in front. ",
}


def authority(host: str, port: int) -> str:
    """Return host and port as in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Address(NamedTuple):
    """Where the service listens, and the settings that say so."""

    host: str
    port: int
    settings: str

    @property
    def url(self) -> str:
        """The URL of the service there."""
        return f"http://{authority(self.host, self.port)}"

    def cannot_listen(self, error: OSError) -> ReceiverError:
        """Return the error of a failed bind, with the fix."""
        reason = error.strerror or error
        cause = _CAUSES.get(error.errno or 0, "")
        return ReceiverError(
            f"cannot listen on {authority(self.host, self.port)}: {reason}. {cause}Set {self.settings}."
        )


def addresses(settings: Settings) -> list[Address]:
    """Return where the service listens: the public address and, if it is set, the internal one."""
    found = [Address(settings.host, settings.port, "PORT or RECEIVER_HOST")]
    if settings.internal_port is not None:
        names = "RECEIVER_INTERNAL_PORT or RECEIVER_INTERNAL_HOST"
        found.append(Address(settings.internal_host, settings.internal_port, names))
    return found
