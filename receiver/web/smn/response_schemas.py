"""Schemas of responses of SMN's API. The OpenAPI document is generated from them; ReportRow writes reports."""

from __future__ import annotations

from typing import Any

import msgspec
from marshmallow import Schema, fields, validate

from receiver.search.result import Verdict
from receiver.streams.entry_readers import ACKNOWLEDGED, NOT_READ, PENDING
from receiver.web.smn.request_schemas import URN_EXAMPLE, Count, Moment, Route

_REQUEST_ID = {
    "description": "Id of this request; also in X-Request-Id.",
    "example": "ce7f2f7343224f8c9597b05a9a0bcc2e",
}
_UTC = {"type": "string", "format": "date-time", "example": "2016-08-02T08:10:02Z"}


class SmnResponse(Schema):
    """The base of all responses."""

    request_id = fields.String(required=True, metadata=_REQUEST_ID)


class ListedRoute(Route):
    """A route, with the streams of a partitioned topic."""

    stream_keys = fields.List(
        fields.String(),
        metadata={
            "description": "Only of a partitioned topic: the keys of all its streams. A consumer reads all of them."
        },
    )


class EventList(SmnResponse):
    """Response of ListSmsEvent."""

    callback = fields.List(fields.Nested(ListedRoute), required=True)


class Updated(SmnResponse):
    """Response of UpdateSmsEvent."""


def _nullable(text: str, attribute: str | None = None, **metadata: str) -> fields.String:
    return fields.String(
        required=True, allow_none=True, attribute=attribute, metadata={"description": text, **metadata}
    )


def _moment(text: str) -> Moment:
    return Moment(required=True, allow_none=True, metadata={**_UTC, "description": text})


class ReportRow(Schema):
    """SMN's ``Sms_report_data``. A field is null if unknown, and only where its description says so."""

    message_id = fields.String(required=True)
    status = fields.Integer(required=True, validate=validate.OneOf([0, 1, 2]))
    sign_id = fields.String(required=True)
    status_desc = _nullable("The carrier's code; null while `status` is 0.", example="DELIVRD")
    fee_num = Count(
        required=True,
        metadata={"description": "Messages charged; 0: unknown, neither registered nor sent by the provider."},
    )
    extend_code = _nullable("Extension code; null unless registered with one, or sent by the provider.", example="01")
    nation_code = _nullable("Country calling code; null unless reported or registered.", example="86")
    mobile = _nullable("National number; null where the provider's report names none.", example="13800138000")
    submit_time = _moment("When it was sent; null unless registered, or sent by the provider.")
    deliver_time = _moment("When its status came; null while `status` is 0.")


class ReportList(SmnResponse):
    """Response of ListSmsMsgReport."""

    count = fields.Integer(required=True, metadata={"description": "Reports in this page."})
    data = fields.List(fields.Nested(ReportRow), required=True)


class _Event(fields.Dict):
    """A whole event, as its entry has it."""

    def _serialize(self, value: bytes | None, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # noqa: ANN401, ARG002 marshmallow's
        return None if value is None else msgspec.Raw(value)


class GroupState(Schema):
    """What a consumer group has done with an entry. The last three are there while it is pending."""

    group = fields.String(required=True, metadata={"example": "billing"})
    state = fields.String(
        required=True,
        validate=validate.OneOf([NOT_READ, PENDING, ACKNOWLEDGED]),
        metadata={"description": "Entries before the start of a group count as acknowledged.", "example": PENDING},
    )
    consumer = _nullable("The consumer that it was delivered to.", example="billing-1")
    idle_ms = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Since the last delivery.", "example": 812_000}
    )
    deliveries = fields.Integer(required=True, allow_none=True, metadata={"example": 7})


class FoundEvent(Schema):
    """An event, or the record of one that is in no stream. A field without a value is null."""

    verdict = fields.String(
        required=True, validate=validate.OneOf([*Verdict]), metadata={"example": Verdict.PUBLISHED.value}
    )
    why = fields.String(
        required=True, metadata={"description": "The verdict in a sentence; the reasons of a rejection."}
    )
    project_id = _nullable("Its project.")
    topic_urn = _nullable("Its topic: the key of the stream.", attribute="topic", example=URN_EXAMPLE)
    entry_id = _nullable("Its entry in the stream.", example="1504146012000-0")
    spool_file = fields.String(
        required=True, allow_none=True, metadata={"description": "The file on this machine that holds it."}
    )
    groups = fields.List(
        fields.Nested(GroupState),
        required=True,
        attribute="readers",
        metadata={"description": "What each consumer group of the stream has done with it."},
    )
    report = fields.Nested(
        ReportRow,
        required=True,
        allow_none=True,
        attribute="record",
        metadata={"description": "The record of its message, as in ListSmsMsgReport."},
    )
    event = _Event(
        required=True,
        allow_none=True,
        attribute="data",
        metadata={"description": "The event as in [asyncapi.json](asyncapi.json)."},
    )


class FoundEvents(SmnResponse):
    """Response of FindSmsEvents."""

    count = fields.Integer(required=True, metadata={"description": "Elements of `data`."})
    complete = fields.Boolean(
        required=True, metadata={"description": "Whether there was time for everything that was to be searched."}
    )
    searched_back_to = _nullable(
        "All entries since then were looked at; null where hints led to the event.", example="2016-08-02T08:10:02Z"
    )
    next_end_time = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "`end_time` of the request that searches the rest; null if there is none."},
    )
    problems = fields.List(
        fields.String(), required=True, metadata={"description": "Files of the spool that could not be searched."}
    )
    data = fields.List(fields.Nested(FoundEvent), required=True)


class MessageText(SmnResponse):
    """Response of GetSmsMessage."""

    message = fields.String(required=True, metadata={"description": "The text as sent."})


class Registered(SmnResponse):
    """Response to a registration."""

    message_id = fields.String(required=True)
    created = fields.Boolean(required=True, metadata={"description": "False if it was registered before."})


class RegistrationResult(Schema):
    """The outcome for one message: ``created``, or ``code`` and ``message`` of an error."""

    message_id = fields.String(required=True, allow_none=True)
    created = fields.Boolean()
    code = fields.String(metadata={"example": "SMN.0102"})
    message = fields.String(metadata={"example": "[3].mobile: Missing data for required field."})


class RegisteredAll(SmnResponse):
    """Response to a batch registration, in the order of the messages."""

    count = fields.Integer(required=True)
    failed = fields.Integer(required=True, metadata={"description": "Number of results with a code."})
    results = fields.List(fields.Nested(RegistrationResult), required=True)


class NamedProject(Schema):
    """A project. Its name is its region."""

    id = fields.String(required=True)
    name = fields.String(required=True)


class TokenUser(Schema):
    """The user of a token."""

    name = fields.String(required=True)


class TokenData(Schema):
    """The description of an issued token."""

    expires_at = fields.String(required=True, metadata={"example": "2031-02-13T06:52:13.855000Z"})
    issued_at = fields.String(required=True)
    methods = fields.List(fields.String(), required=True)
    project = fields.Nested(NamedProject, required=True)
    user = fields.Nested(TokenUser, required=True)


class TokenIssued(SmnResponse):
    """Response to a token request. The token itself is in the header ``X-Subject-Token``."""

    token = fields.Nested(TokenData, required=True)


class ProjectList(SmnResponse):
    """Response of ``GET /v3/projects``."""

    projects = fields.List(fields.Nested(NamedProject), required=True)
    links = fields.Dict(required=True)


class SmnErrorAnswer(SmnResponse):
    """An error of the service."""

    code = fields.String(required=True, metadata={"example": "SMN.0015"})
    message = fields.String(required=True, metadata={"example": "Parameter: Offset or limit is invalid."})


class GatewayErrorAnswer(SmnResponse):
    """Missing or wrong credentials, in the format of SMN's gateway."""

    error_code = fields.String(required=True, metadata={"example": "APIG.0301"})
    error_msg = fields.String(
        required=True,
        metadata={"example": "Incorrect IAM authentication information: x-auth-token not found"},
    )


class CallbackAnswer(Schema):
    """Response to a callback. ``result`` 0 is the ack; any other value asks the provider to retry."""

    result = fields.Integer(required=True, metadata={"example": 0})
    errmsg = fields.String(required=True, metadata={"example": "OK"})
