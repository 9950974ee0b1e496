"""An event as it is read back from a stream, the quarantine or the spool, by searches and commands."""

from __future__ import annotations

from typing import Any, Final

import msgspec


class StoredEvent(msgspec.Struct):
    """The members of an event that searches and commands compare and show."""

    type: str
    id: str = ""
    source: str = ""
    receivedtime: str = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def provider(self) -> str:
        """The provider in the source ``/{provider}/{project_id}``."""
        return self.source.strip("/").partition("/")[0]

    @property
    def project(self) -> str:
        """The project's id in the source ``/{provider}/{project_id}``."""
        return self.source.rpartition("/")[2]

    @property
    def reasons(self) -> list[str]:
        """Why the item was rejected; empty for other events."""
        return [str(reason) for reason in self.data.get("reasons", ())]


_decoder: Final = msgspec.json.Decoder(StoredEvent)


def decode_event(data: bytes) -> StoredEvent | None:
    """Return the event in an entry's ``data``, or None if it is not an event of this service."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
