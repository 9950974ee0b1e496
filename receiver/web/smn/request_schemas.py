"""Schemas of requests to SMN's API. The OpenAPI document is generated from them.

``error_code`` in a field's metadata is SMN's error for an invalid value. https://support.huaweicloud.com/api-smn/.
"""

from __future__ import annotations

import re
from datetime import datetime
from time import time
from typing import Any, Final

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from receiver.events import ROUTED, STATUS_DELIVERED, STATUS_FAILED, STATUS_PENDING, utc
from receiver.lookups.reports import MAX_LIMIT
from receiver.search.finder import LIMIT
from receiver.web.smn import error_codes

#: Messages in one registration, at most.
MAX_MESSAGES: Final = 1000
#: Bytes of the body of a PUT, and of one message in a batch. A text of 10,000 characters takes 60,000 as JSON escapes
#: (``\uXXXX``), and the other fields take up to 3,000.
PUT_BODY: Final = 64 << 10
#: Bytes of a batch: 4 KiB for each message. Tencent's longest text, 500 characters, takes 3,000 as escapes.
BATCH_BODY: Final = MAX_MESSAGES * (4 << 10)
URN_EXAMPLE: Final = "urn:smn:cn-north-4:f96188c7ccaf4ffba0c9aa149ab2bd57:test_reply"
_ID_EXAMPLE: Final = "ce7f2f7343224f8c9597b05a9a0bcc2e"
_SIGN_EXAMPLE: Final = "6be340e91e5241e4b5d85837e6709104"
_TIME_EXAMPLE: Final = "2016-08-02T08:10:01Z"
_STATUSES: Final = "0: sent, no status yet; 1: delivered; 2: failed."
_ID: Final = r"^[^/\x00-\x1f\x7f-\x9f]+\Z"
_NOT_AN_ID: Final = "Must be printable text in one line, without a slash."
#: Messages may be registered shortly before they are sent. A day also tolerates a wrong time zone.
_MAX_FUTURE_MS: Final = 24 * 3600 * 1000


class Number(fields.Integer):
    """An integer, or its digits as SDKs send them. Other values that ``int()`` accepts are invalid."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:  # noqa: ANN401 marshmallow's
        value = _whole(value)
        if isinstance(value, bool) or not re.fullmatch("-?[0-9]{1,15}", str(value)):
            raise ValidationError("Not a valid integer.")
        return super()._deserialize(int(value), attr, data, **kwargs)


class Count(fields.Integer):
    """A count. An unknown one is 0: SMN documents an int, and strict clients reject null."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # noqa: ANN401 marshmallow's
        return super()._serialize(value or 0, attr, obj, **kwargs)


class Moment(fields.Field[int]):
    """A time: milliseconds since the epoch in Python; ``2016-08-02T08:10:01Z`` or milliseconds in JSON."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ANN401, ARG002 marshmallow's
        return None if value is None else utc(value // 1000)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:  # noqa: ANN401, ARG002 marshmallow's
        moment = _milliseconds(value)
        if moment is None:
            raise ValidationError("Not a time; write 2016-08-02T08:10:01Z or milliseconds since the epoch.")
        if not 0 <= moment <= time() * 1000 + _MAX_FUTURE_MS:
            raise ValidationError("Before 1970, or more than a day in the future.")
        return moment


class BoundedList(fields.List[Any]):
    """A list whose length is checked before its items: validating 10,000 invalid ones takes 0.3 s."""

    def __init__(self, inner: fields.Field[Any], *, low: int = 0, high: int, **options: Any) -> None:  # noqa: ANN401 a field's options
        super().__init__(inner, validate=validate.Length(low, high), **options)
        self._high = high

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:  # noqa: ANN401 marshmallow's
        if isinstance(value, list) and len(value) > self._high:
            raise ValidationError(f"Longer than maximum length {self._high}.")
        return super()._deserialize(value, attr, data, **kwargs)


def _whole(value: Any) -> Any:  # noqa: ANN401 any JSON
    """Return 900 for 900.0, which is an integer in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _milliseconds(value: Any) -> int | None:  # noqa: ANN401 any JSON
    value = _whole(value)
    if isinstance(value, bool):
        return None
    if re.fullmatch("[0-9]{1,15}", str(value)):
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
        return None if moment.tzinfo is None else int(moment.timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(low: int, high: int, description: str, **options: Any) -> fields.String:  # noqa: ANN401 a field's options
    """Return a field for printable text, which breaks neither log lines nor keys."""
    printable = validate.Regexp(r"^[^\x00-\x1f\x7f-\x9f]*\Z", error="Must be printable text in one line.")
    checks = (validate.Length(low, high), printable)
    metadata = {"description": description, **options.pop("metadata", {})}
    return fields.String(validate=checks, metadata=metadata, **options)


def _message_id(**options: Any) -> fields.String:  # noqa: ANN401 a field's options
    return fields.String(
        validate=(
            validate.Length(1, 128),
            validate.Regexp(_ID, error=_NOT_AN_ID),
        ),
        metadata={
            "description": "Id of the message, an opaque text such as Tencent's `sid`.",
            "example": _ID_EXAMPLE,
            "error_code": error_codes.MESSAGE_ID,
        },
        **options,
    )


def _event_type(**options: Any) -> fields.String:  # noqa: ANN401 a field's options
    return fields.String(
        validate=validate.OneOf([str(kind) for kind in ROUTED]),
        metadata={
            "description": "Type of the events. `sms_sent_event`: only of a project that publishes states that are not "
            "final.",
            "error_code": error_codes.EVENT_TYPE,
        },
        **options,
    )


def _time(description: str, error_code: error_codes.SmnErrorCode, **options: Any) -> Number:  # noqa: ANN401 a field's options
    metadata = {"description": description, "example": 1504146012000, "format": "int64", "error_code": error_code}
    return Number(required=True, validate=validate.Range(0), metadata=metadata, **options)


class Tolerant(Schema):
    """Ignores unknown fields, which SDKs and later versions of the API send."""

    error_messages = {"type": "Expected an object."}  # noqa: RUF012 as marshmallow declares it

    class Meta:
        unknown = EXCLUDE


class EventQuery(Tolerant):
    """Query of ListSmsEvent."""

    event_type = _event_type()


class Route(Tolerant):
    """SMN's ``Sms_callback``: the topic that events of a type go to."""

    event_type = _event_type(required=True)
    topic_urn = fields.String(
        required=True,
        metadata={
            "description": "Topic: the key of the Redis stream.",
            "example": URN_EXAMPLE,
            "error_code": error_codes.TOPIC_URN,
        },
    )


class Routes(Tolerant):
    """Body of UpdateSmsEvent. Event types that are not listed keep their routes."""

    callback = BoundedList(
        fields.Nested(Route),
        low=1,
        high=len(ROUTED),
        required=True,
        metadata={"description": "Routes to set. An empty topic_urn restores the configured route."},
    )


class ReportQueryArgs(Tolerant):
    """Query of ListSmsMsgReport. Times are inclusive."""

    start_time = _time(
        "Earliest time of a report, in ms since the epoch.", error_codes.START_TIME, attribute="start_ms"
    )
    end_time = _time("Latest time of a report, in ms since the epoch.", error_codes.END_TIME, attribute="end_ms")
    sign_id = _text(
        1,
        128,
        "Id of the signature.",
        required=True,
        metadata={"error_code": error_codes.SIGN_ID, "example": _SIGN_EXAMPLE},
    )
    message_id = _message_id()
    mobile = _text(
        1,
        32,
        "Phone number in any spelling. `+8613800138000` means one number. Without the `+` it matches every number that "
        "can be written so, in up to eight countries.",
        metadata={"example": "+8613800138000"},
    )
    status = Number(
        validate=validate.OneOf([STATUS_PENDING, STATUS_DELIVERED, STATUS_FAILED]),
        metadata={"description": _STATUSES, "error_code": error_codes.STATUS},
    )
    offset = Number(
        load_default=0,
        validate=validate.Range(0),
        metadata={"description": "Number of reports to skip.", "error_code": error_codes.PAGE},
    )
    limit = Number(
        load_default=MAX_LIMIT,
        validate=validate.Range(1, MAX_LIMIT),
        metadata={"description": "Maximum number of reports in the response.", "error_code": error_codes.PAGE},
    )


class Sent(Tolerant):
    """A message that the sending side registers. Missing fields keep their earlier values."""

    message = fields.String(
        required=True,
        validate=validate.Length(1, 10_000),
        metadata={"description": "The whole text as sent, signature included.", "example": "【Example】 Code: 1234"},
    )
    mobile = _text(1, 32, "Phone number, in any spelling.", required=True, metadata={"example": "13800138000"})
    nation_code = _text(
        1, 8, "Country calling code, unless `mobile` includes it.", allow_none=True, metadata={"example": "86"}
    )
    sign_id = _text(
        1, 128, "Id of the signature; default: the project's.", allow_none=True, metadata={"example": _SIGN_EXAMPLE}
    )
    extend_code = _text(0, 32, "Extension code of the channel.", allow_none=True, metadata={"example": "01"})
    submit_time = Moment(
        allow_none=True,
        metadata={
            "type": ["string", "integer"],
            "minimum": 0,
            "description": "When it was sent, with a zone or in ms since the epoch, at most a day ahead. Default: now.",
            "example": _TIME_EXAMPLE,
        },
    )
    fee_num = Number(
        allow_none=True,
        validate=validate.Range(1, 1000),
        metadata={
            "description": "Messages charged. Default: counted from the text: 1 up to 70 characters, else 1 per 67."
        },
    )


class SentInBatch(Sent):
    """One message of a batch registration."""

    message_id = _message_id(required=True)


class MessagePath(Tolerant):
    """The id in the path of GetSmsMessage."""

    message_id = _message_id(required=True)


class FindPath(Tolerant):
    """What FindSmsEvents searches for."""

    id = fields.String(
        required=True,
        validate=(
            validate.Length(1, 128),
            validate.Regexp(_ID, error=_NOT_AN_ID),
        ),
        metadata={
            "description": "A message id, an event's id, the id of an entry in a stream, or a phone number in any "
            "spelling.",
            "example": _ID_EXAMPLE,
            "error_code": error_codes.MESSAGE_ID,
        },
    )


class FindQuery(Tolerant):
    """Query of FindSmsEvents. Times are those of Redis' clock, inclusive."""

    start_time = Number(
        validate=validate.Range(0),
        attribute="oldest_ms",
        metadata={
            "description": "Search all entries back to here, in ms since the epoch, even if one was found. Default: "
            "the last 24 hours, and only while no hint says where the event is.",
            "example": 1504146012000,
            "format": "int64",
            "error_code": error_codes.START_TIME,
        },
    )
    end_time = Number(
        validate=validate.Range(0),
        attribute="newest_ms",
        metadata={
            "description": "Search back from here, in ms since the epoch: `next_end_time` of an answer that is not "
            "complete. Default: now.",
            "example": 1504149612000,
            "format": "int64",
            "error_code": error_codes.END_TIME,
        },
    )
    limit = Number(
        load_default=LIMIT,
        validate=validate.Range(1, MAX_LIMIT),
        metadata={
            "description": "Number of events after which the search ends. An answer may have some more.",
            "error_code": error_codes.PAGE,
        },
    )
