"""Messages as the sending side registers them, and their texts: what GetSmsMessage and status 0 need."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError

from receiver.lookups.messages import Missing, Refused, SentMessage
from receiver.places import places
from receiver.web.middleware import smn_response
from receiver.web.smn import faults
from receiver.web.smn.api import asked
from receiver.web.smn.parsing import mistake
from receiver.web.smn.schemas import MOST_MESSAGES, MessagePath, Sent, SentInBatch

if TYPE_CHECKING:
    from aiohttp import web

    from receiver.lookups.messages import Messages
    from receiver.web.smn.auth import Credentials
    from receiver.web.smn.parsing import SmnParser

_MISSING = {Missing.UNKNOWN: faults.NO_MESSAGE, Missing.EXPIRED: faults.OLD_MESSAGE}
_REFUSED = {Refused.SIGNATURE: faults.TOO_MANY_SIGNS}
#: Problems that an error message lists.
_MOST_PROBLEMS = 10
_batch_schema = SentInBatch()


class SmsMessages:
    """Registers messages, and returns their texts for a day."""

    def __init__(self, credentials: Credentials, parser: SmnParser, messages: Messages, wanted: asyncio.Event) -> None:
        """Hand the collaborators over. ``wanted`` is set by the first registration: somebody needs the index."""
        self._credentials = credentials
        self._parser = parser
        self._messages = messages
        self._wanted = wanted

    async def get(self, request: web.Request) -> web.Response:
        """GetSmsMessage: ``GET …/sms/message/{message_id}``. Raises SmnError: 404 says whether unknown or expired."""
        project, _ = await self._credentials.check(request, request.match_info["project_id"])
        text = await asked(self._messages.text(project.id, _message_id(request)))
        if isinstance(text, Missing):
            raise _MISSING[text].error()
        return smn_response({"message": text})

    async def register(self, request: web.Request) -> web.Response:
        """Register one message: ``PUT …/sms/message/{message_id}``. Idempotent. Raises SmnError."""
        project, _ = await self._credentials.check(request, request.match_info["project_id"])
        self._wanted.set()
        message_id = _message_id(request)
        fields: Any = await self._parser.parse(Sent(), request, location="json")
        sent = SentMessage(message_id=message_id, **fields)
        (created,) = await asked(self._messages.register(project.id, [sent]))
        if isinstance(created, Refused):
            raise _REFUSED[created].error()
        return smn_response({"message_id": message_id, "created": created})

    async def register_all(self, request: web.Request) -> web.Response:
        """Register up to 1,000 messages: ``POST …/sms/message``, an array. Idempotent, each on its own.

        A bad one harms no other: the answer tells for each what became of it. Raises SmnError when none is good.
        """
        project, _ = await self._credentials.check(request, request.match_info["project_id"])
        self._wanted.set()
        items = await self._parser.json(request)
        if not isinstance(items, list):
            raise faults.MALFORMED.error("expected an array of messages")
        if len(items) > MOST_MESSAGES:
            raise faults.MALFORMED.error(f"{len(items)} messages are too many: at most {MOST_MESSAGES} in one request")
        # 1,000 take 20 ms, in which nobody else would be answered.
        read = await asyncio.to_thread(lambda: [_read(index, item) for index, item in enumerate(items)])
        good = [one for one in read if isinstance(one, SentMessage)]
        outcomes = iter(await asked(self._messages.register(project.id, good)) if good else ())
        results = [
            _result(index, one.message_id, next(outcomes)) if isinstance(one, SentMessage) else one
            for index, one in enumerate(read)
        ]
        problems = [str(result["message"]) for result in results if "code" in result]
        if items and len(problems) == len(items):
            raise faults.MALFORMED.error("no message is valid: " + "; ".join(problems[:_MOST_PROBLEMS]))
        return smn_response({"count": len(results), "failed": len(problems), "results": results})


def _message_id(request: web.Request) -> str:
    try:
        loaded: Any = MessagePath().load({"message_id": request.match_info["message_id"]})
    except ValidationError:
        raise faults.MESSAGE_ID.error() from None
    return str(loaded["message_id"])


def _result(index: int, message_id: str, outcome: bool | Refused) -> dict[str, Any]:  # noqa: FBT001 an outcome, no switch
    if isinstance(outcome, Refused):
        fault = _REFUSED[outcome]
        return {"message_id": message_id, "code": fault.code, "message": f"[{index}].sign_id: {fault.message}"}
    return {"message_id": message_id, "created": outcome}


def _read(index: int, item: Any) -> SentMessage | dict[str, Any]:  # noqa: ANN401 any JSON
    """Return the message, or the result that says what is wrong with it, and where."""
    try:
        loaded: Any = _batch_schema.load(item)
        return SentMessage(**loaded)
    except ValidationError as error:
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        given = item.get("message_id") if isinstance(item, dict) else None
        return {
            "message_id": given if isinstance(given, str) else None,
            "code": mistake(_batch_schema, messages).smn_code,
            "message": "; ".join(places(messages, f"[{index}]")),
        }
