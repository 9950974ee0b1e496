"""The Lua scripts of this folder, and the names of the keys that Python computes as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from receiver.redis_client import Script

if TYPE_CHECKING:
    from receiver.redis_client import Client

#: The latest time that the index can sort: six bytes of milliseconds, until the year 10889.
LATEST: Final = (1 << 48) - 2

_FOLDER = Path(__file__).parent


def script(redis: Client, name: str, *, on_records: bool = True, replicas: int = 0) -> Script:
    """Return the script ``name``.lua, preceded by the shared record.lua. Sends nothing to Redis.

    ``replicas``: how many must have what it writes.
    """
    parts = ("record", name) if on_records else (name,)
    return Script(redis, "\n".join((_FOLDER / f"{part}.lua").read_text("utf-8") for part in parts), replicas)


def project_key(project_id: str) -> str:
    """Return the prefix of every key of a project: a hash tag, so that all of them are in one cluster slot."""
    return f"{{lookups:{project_id}}}"


def text_key(project_id: str, message_id: str) -> str:
    """Return the key of the text of a message."""
    return f"{project_key(project_id)}:t:{message_id}"
