"""Reads a whole stream in pages, so that neither Redis nor this process holds all of it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from receiver.redis_client import on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.redis_client import Client

#: Id and fields. An entry that was trimmed while it was pending in a group has no fields.
StreamEntry = tuple[bytes, dict[bytes, bytes]]


async def pages(
    client: Client, topic: str, size: int, first: str = "-", last: str = "+"
) -> AsyncIterator[list[StreamEntry]]:
    """Yield the entries between two ids that are in the stream now, ``size`` at a time. Later entries are left out.

    Raises the errors of redis-py.
    """
    newest: Any = await on(client, topic).xrevrange(topic, last, count=1)
    start = first.encode()
    while newest:
        page: Any = await on(client, topic).xrange(topic, start, newest[0][0], count=size)
        if not page:
            return
        yield page
        start = b"(" + page[-1][0]
