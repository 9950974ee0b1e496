"""Registration of sent messages. GetSmsMessage returns their texts; reports get status 0 from them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from marshmallow import ValidationError

from receiver.error_paths import flatten_errors
from receiver.errors import summary
from receiver.lookups.messages import Missing, Refused, SentMessage
from receiver.providers.json_items import NotJsonError, TooManyItemsError, decode_item, split
from receiver.web.admission import Slots
from receiver.web.middleware import smn_response
from receiver.web.smn import error_codes
from receiver.web.smn.api import with_redis_timeout
from receiver.web.smn.parsing import to_smn_error
from receiver.web.smn.request_schemas import MAX_MESSAGES, PUT_BODY, MessagePath, Sent, SentInBatch

if TYPE_CHECKING:
    from aiohttp import web

    from receiver.lookups.messages import Messages
    from receiver.web.smn.auth import Credentials
    from receiver.web.smn.parsing import SmnParser

_MISSING = {Missing.UNKNOWN: error_codes.NO_MESSAGE, Missing.EXPIRED: error_codes.OLD_MESSAGE}
_REFUSED = {Refused.SIGNATURE: error_codes.TOO_MANY_SIGNS}
#: Seconds that a batch may wait for its slot. Reading a batch of 1,000 takes 50 ms.
_MAX_WAIT: Final = 4.0
_batch_schema = SentInBatch()


class SmsMessages:
    """Registers messages, and returns their texts for a day."""

    def __init__(
        self, credentials: Credentials, parser: SmnParser, messages: Messages, index_needed: asyncio.Event
    ) -> None:
        """Set up. The first registration sets ``index_needed``, which starts the report index."""
        self._credentials = credentials
        self._parser = parser
        self._messages = messages
        self._index_needed = index_needed
        # A slot of its own, so that registrations do not delay large callbacks.
        self._batches = Slots(1, "other registrations are in flight; send again later, or fewer messages at a time")

    async def get(self, request: web.Request) -> web.Response:
        """GetSmsMessage: ``GET …/sms/message/{message_id}``. Raises SmnError, 404 if unknown or expired."""
        project, _ = await self._credentials.check(request)
        text = await with_redis_timeout(self._messages.text(project.id, _message_id(request)))
        if isinstance(text, Missing):
            raise _MISSING[text].error()
        return smn_response({"message": text})

    async def register(self, request: web.Request) -> web.Response:
        """Register one message: ``PUT …/sms/message/{message_id}``. Idempotent. Raises SmnError."""
        project, _ = await self._credentials.check(request)
        self._index_needed.set()
        message_id = _message_id(request)
        fields: Any = await self._parser.parse(Sent(), request, location="json")
        sent = SentMessage(message_id=message_id, **fields)
        (created,) = await with_redis_timeout(self._messages.register(project.id, [sent]))
        if isinstance(created, Refused):
            raise _REFUSED[created].error()
        return smn_response({"message_id": message_id, "created": created})

    async def register_all(self, request: web.Request) -> web.Response:
        """Register up to 1,000 messages: ``POST …/sms/message``, an array. Idempotent.

        An invalid message does not affect the others: the response has a result for each. Raises SmnError if none is
        valid.
        """
        project, _ = await self._credentials.check(request)
        self._index_needed.set()
        body = await self._parser.body(request)
        async with self._batches.slot(_MAX_WAIT):
            batch = await asyncio.to_thread(_read_batch, body)
        valid = [item for item in batch if isinstance(item, SentMessage)]
        outcomes = iter(await with_redis_timeout(self._messages.register(project.id, valid)) if valid else ())
        results = [
            _result(index, item.message_id, next(outcomes)) if isinstance(item, SentMessage) else item
            for index, item in enumerate(batch)
        ]
        problems = [str(result["message"]) for result in results if "code" in result]
        if results and len(problems) == len(results):
            raise error_codes.MALFORMED.error("no message is valid: " + summary(problems))
        return smn_response({"count": len(results), "failed": len(problems), "results": results})


def _message_id(request: web.Request) -> str:
    try:
        loaded: Any = MessagePath().load({"message_id": request.match_info["message_id"]})
    except ValidationError:
        raise error_codes.MESSAGE_ID.error() from None
    return str(loaded["message_id"])


def _result(index: int, message_id: str, outcome: bool | Refused) -> dict[str, Any]:  # noqa: FBT001 an outcome, not a flag
    if isinstance(outcome, Refused):
        error = _REFUSED[outcome]
        return {"message_id": message_id, "code": error.code, "message": f"[{index}].sign_id: {error.message}"}
    return {"message_id": message_id, "created": outcome}


def _read_batch(body: bytes) -> list[SentMessage | dict[str, Any]]:
    """Read each message of a batch on its own. Raises SmnError for too many, or if the array cannot be split."""
    if not body.lstrip().startswith(b"["):
        raise error_codes.MALFORMED.error("expected an array of messages: the body is not JSON, or not an array")
    try:
        items = split(body, MAX_MESSAGES)
    except NotJsonError as error:
        raise error_codes.MALFORMED.error(f"expected an array of messages: {error}") from None
    except TooManyItemsError:
        raise error_codes.MALFORMED.error(f"too many messages: at most {MAX_MESSAGES} in one request") from None
    return [_read(index, raw) for index, (_, raw) in enumerate(items)]


def _read(index: int, raw: bytes) -> SentMessage | dict[str, Any]:
    """Return the message, or a result with the problems of an invalid one."""
    item = None
    try:
        item = _decoded(raw)
        loaded: Any = _batch_schema.load(item)
        return SentMessage(**loaded)
    except ValidationError as error:
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        given = item.get("message_id") if isinstance(item, dict) else None
        return {
            "message_id": given if isinstance(given, str) else None,
            "code": to_smn_error(_batch_schema, messages).smn_code,
            "message": summary(flatten_errors(messages, f"[{index}]")),
        }


def _decoded(raw: bytes) -> Any:  # noqa: ANN401 any JSON
    if len(raw) > PUT_BODY:
        raise ValidationError(f"larger than {PUT_BODY} bytes")
    return decode_item(raw)
