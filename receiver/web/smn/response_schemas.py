"""Schemas of responses of SMN's API. The OpenAPI document is generated from them; ReportRow writes reports."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from receiver.web.smn.request_schemas import Count, Moment, Route

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


def _nullable(text: str, **metadata: str) -> fields.String:
    return fields.String(required=True, allow_none=True, metadata={"description": text, **metadata})


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
        metadata={"description": "Messages charged; 0: not known, neither registered nor told by the provider."},
    )
    extend_code = _nullable("Extension code; null unless registered with one, or told by the provider.", example="01")
    nation_code = _nullable("Country calling code; null unless reported or registered.", example="86")
    mobile = _nullable("National number; null where the provider's report names none.", example="13800138000")
    submit_time = _moment("When it was sent; null unless registered, or told by the provider.")
    deliver_time = _moment("When its status came; null while `status` is 0.")


class ReportList(SmnResponse):
    """Response of ListSmsMsgReport."""

    count = fields.Integer(required=True, metadata={"description": "Reports in this page."})
    data = fields.List(fields.Nested(ReportRow), required=True)


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
