"""Messages as the sending side registers them, and their texts for a day.

https://support.huaweicloud.com/api-smn/ GetSmsMessage: "only messages of the last 24 hours".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.lookups.indexed_projects import IndexedProjects
from receiver.lookups.scripts import LATEST, project_key, script, text_key
from receiver.phone_numbers import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

#: How long the text of a message can be read, counted from its ``submit_time``.
TEXT_KEPT_MS: Final = 24 * 60 * 60 * 1000

_SINGLE, _PART = 70, 67
_CHUNK = 250  # messages a script call: some 5 ms in which Redis answers nobody else


def fee_num(text: str) -> int:
    """Return for how many messages SMN charges a text: up to 70 characters are 1, longer ones 67 each.

    ``text`` includes the signature, as sent. https://support.huaweicloud.com/api-smn/ ListSmsMsgReport.
    """
    return 1 if len(text) <= _SINGLE else -(-len(text) // _PART)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """What the sending side says it sent. ``message`` is the whole text, signature included.

    ``mobile`` may have any spelling. What is None keeps its earlier value, if one was ever told. ``sign_id`` is else
    the project's default, ``fee_num`` is counted from the text as it is now, and ``submit_time`` (milliseconds since
    the epoch) is the first registration.
    """

    message_id: str
    message: str
    mobile: str
    nation_code: str | None = None
    sign_id: str | None = None
    extend_code: str | None = None
    submit_time: int | None = None
    fee_num: int | None = None

    def __post_init__(self) -> None:
        """Refuse a time that cannot be kept in order."""
        if self.submit_time is not None and not 0 <= self.submit_time <= LATEST:
            raise ValueError("submit_time must be milliseconds since the epoch")


class Missing(StrEnum):
    """Why there is no text."""

    UNKNOWN = "unknown"  # never registered, or its report is beyond the retention
    EXPIRED = "expired"  # registered, but sent more than 24 hours ago


class Refused(StrEnum):
    """Why a message was not registered."""

    SIGNATURE = "signature"  # its signature is new, and the project has as many as it may have


#: What register.lua returns for a message.
_OUTCOMES: Final[dict[int, bool | Refused]] = {1: True, 0: False, -1: Refused.SIGNATURE}


class Messages:
    """Registers sent messages and returns their texts. Errors are those of redis-py (``RedisError``)."""

    def __init__(self, redis: Redis) -> None:
        """Keep the client; ``decode_responses`` must be off."""
        self._redis = redis
        self._register = script(redis, "register")
        self._registered = script(redis, "registered")
        self._indexed = IndexedProjects(redis)

    async def register(self, project_id: str, messages: Sequence[SentMessage]) -> list[bool | Refused]:
        """Register messages; say for each whether it was unknown before, or why it is refused.

        Repeating it changes nothing. The report of a message may have come already: both orders end in the same
        state. An error leaves each message either registered or not; registering all of them again mends that.
        """
        await self._indexed.note(project_id)
        outcomes: list[bool | Refused] = []
        for start in range(0, len(messages), _CHUNK):
            rows = [_row(message) for message in messages[start : start + _CHUNK]]
            arguments = (msgspec.msgpack.encode(rows), TEXT_KEPT_MS)
            outcomes += map(_OUTCOMES.__getitem__, await self._register([project_key(project_id)], arguments))
        return outcomes

    async def text(self, project_id: str, message_id: str) -> str | Missing:
        """Return the text of a message, or why there is none.

        Where recipients share the id, it is the text of the last registration.
        """
        text: Any = await self._redis.get(text_key(project_id, message_id))
        if text is not None:
            return str(text, "utf-8")
        registered = await self._registered([project_key(project_id)], [message_id])
        return Missing.EXPIRED if registered else Missing.UNKNOWN


def _row(sent: SentMessage) -> tuple[str | int | None, ...]:
    """Return the message as register.lua takes it: its number canonical, an empty optional text left out."""
    return (
        sent.message_id,
        sent.message,
        sent.fee_num,
        sent.sign_id or None,
        sent.extend_code or None,
        sent.submit_time,
        *canonical(sent.nation_code, sent.mobile),
        fee_num(sent.message),
    )
