"""The limit of open file descriptors of this process: each connection, file and pipe to a child takes one."""

from __future__ import annotations

import os
import resource
from typing import Final

#: Descriptors for everything but client connections: Redis (some 60), spool, metrics, logs, sockets, children.
RESERVE: Final = 200
#: The soft limit is raised no further unless the settings need it: a hard limit may be a billion, and children inherit.
_ENOUGH: Final = 65_536


def raise_limit(connections: int) -> int:
    """Raise the soft limit towards the hard limit, enough for this many connections. Return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(connections + RESERVE, _ENOUGH)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _finite(soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # the kernel of macOS has a limit below the hard limit
        return soft
    return wanted


def connections_within_limit(wanted: int) -> int:
    """Return how many client connections may be open: ``wanted``, or fewer if the limit in force is too low."""
    limit = _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return min(wanted, max(limit - RESERVE, limit // 2))


def exhausted() -> OSError | None:
    """Return the error if no descriptor is left. libuv then closes new connections without a word."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error
    return None


def _finite(limit: int) -> int:
    return 1 << 30 if limit == resource.RLIM_INFINITY else limit
