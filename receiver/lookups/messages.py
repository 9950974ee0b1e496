"""Registers the messages that the sender sends, and keeps their texts for a day.

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
from receiver.redis_client import on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.redis_client import Client

#: Milliseconds after its ``submit_time`` for which the text of a message is kept.
TEXT_KEPT_MS: Final = 24 * 60 * 60 * 1000

_SINGLE, _PART = 70, 67
_CHUNK: Final = 250  # messages in a script call, which blocks Redis for some 5 ms


def fee_num(text: str) -> int:
    """Return how many messages SMN charges for a text: one up to 70 characters, otherwise one for each 67.

    ``text`` includes the signature, as sent. https://support.huaweicloud.com/api-smn/ ListSmsMsgReport.
    """
    return 1 if len(text) <= _SINGLE else -(-len(text) // _PART)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message as the sender registers it. ``message`` is the whole text, signature included.

    ``mobile`` may have any spelling. A field that is None keeps the value of an earlier registration. Without one,
    ``sign_id`` is the project's default, ``fee_num`` is counted from the text, and ``submit_time`` (milliseconds since
    the epoch) is the time of the first registration.
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
        """Refuse a time that the index cannot sort."""
        if self.submit_time is not None and not 0 <= self.submit_time <= LATEST:
            raise ValueError("submit_time must be milliseconds since the epoch")


class Missing(StrEnum):
    """Why there is no text."""

    UNKNOWN = "unknown"  # never registered, or its report is beyond the retention
    EXPIRED = "expired"  # registered, and sent more than 24 hours ago


class Refused(StrEnum):
    """Why a message was not registered."""

    SIGNATURE = "signature"  # its signature is new, and the project is at the limit of signatures


#: What register.lua returns for a message.
_OUTCOMES: Final[dict[int, bool | Refused]] = {1: True, 0: False, -1: Refused.SIGNATURE}


class Messages:
    """Registers sent messages and returns their texts. Raises the errors of redis-py (``RedisError``)."""

    def __init__(self, redis: Client, replicas: int = 0) -> None:
        """``decode_responses`` of the client must be off. ``replicas``: how many must have a registration."""
        self._redis = redis
        self._register = script(redis, "register", replicas=replicas)
        self._registered = script(redis, "registered")
        self._indexed = IndexedProjects(redis)

    async def register(self, project_id: str, messages: Sequence[SentMessage]) -> list[bool | Refused]:
        """Register messages. Return for each whether it is new, or why it is refused.

        Repeating a registration has no effect. The report of a message may arrive before or after it: both orders end
        in the same state. After an error some messages may be registered; register all of them again.
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
        key = text_key(project_id, message_id)
        text: Any = await on(self._redis, key).get(key)
        if text is not None:
            return str(text, "utf-8")
        registered = await self._registered([project_key(project_id)], [message_id])
        return Missing.EXPIRED if registered else Missing.UNKNOWN


def _row(sent: SentMessage) -> tuple[str | int | None, ...]:
    """Return the message as register.lua takes it: its number canonical, empty optional texts omitted."""
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
