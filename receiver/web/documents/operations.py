"""Every operation of the service, as a table: the OpenAPI document and its page are made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.providers import PROVIDERS
from receiver.providers.tencent import Reply, StatusReport
from receiver.web.smn import error_codes
from receiver.web.smn.iam import TOKEN_BODY, ProjectQuery, TokenRequest
from receiver.web.smn.request_schemas import (
    BATCH_BODY,
    MAX_MESSAGES,
    PUT_BODY,
    EventQuery,
    ReportQueryArgs,
    Routes,
    Sent,
    SentInBatch,
)
from receiver.web.smn.response_schemas import (
    CallbackAnswer,
    EventList,
    MessageText,
    ProjectList,
    Registered,
    RegisteredAll,
    ReportList,
    TokenIssued,
    Updated,
)

if TYPE_CHECKING:
    from marshmallow import Schema

SMS: Final = "/v2/{project_id}/notifications/sms"
TAGS: Final = {
    "callbacks": "A provider sends status reports and replies. Its ack means that every item is safe: in Redis, or "
    "fsynced on disk. Anything else means that nothing may be forgotten: send it again.",
    "lookups": "What was sent, what became of it, and where events go: the SMS API of Huawei Cloud SMN. Authentication "
    "with a token or an AK/SK signature.",
    "tokens": "The two calls to IAM that SMN's SDKs make first, answered from the configuration.",
    "operation": "Health, metrics, and the documents.",
}


class Body(NamedTuple):
    """A request's body: one of ``schemas``, or an array of them, or (``both``) either; any JSON without schemas.

    ``others`` are media types that it may have besides JSON.
    """

    schemas: tuple[type[Schema], ...]
    array: bool = False
    both: bool = False
    most: int | None = None
    others: tuple[str, ...] = ()
    example: object = None


class Operation(NamedTuple):
    """One operation. ``answer`` is a schema, or a media type for what is no JSON object of ours.

    ``providers`` are those that the path may name. Each answers in its own format.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str = ""
    query: type[Schema] | None = None
    body: Body | None = None
    answer: type[Schema] | str | None = None
    status: int = 200
    faults: tuple[error_codes.SmnErrorCode, ...] = ()
    providers: tuple[str, ...] = ()


#: From the provider's document, https://www.tencentcloud.com/document/product/382/59178.
_SAMPLE: Final = {
    "user_receive_time": "2015-10-17 08:03:04",
    "nationcode": "86",
    "mobile": "13xxxxxxxxx",
    "report_status": "SUCCESS",
    "errmsg": "DELIVRD",
    "description": "用户短信送达成功",
    "sid": "xxxxxxx",
}
_CALLBACK: Final = Body((StatusReport, Reply), array=True, both=True, example=[_SAMPLE])
_CALLBACK_TEXT: Final = (
    "An array of status reports, a single report, a single reply, or an array that mixes them: array or object "
    "decides, never the Content-Type. A bad item harms no other: it is kept in the project's quarantine, with the "
    "reasons. Fields that the schema does not know are kept under `data.extra`."
)


def _callback(path: str, name: str, summary: str) -> Operation:
    return Operation("post", path, name, "callbacks", summary, _CALLBACK_TEXT, body=_CALLBACK, answer=CallbackAnswer)


_PROVIDER_BODY: Final = Body((), others=("application/x-www-form-urlencoded", "text/plain"), example=[_SAMPLE])
_PROVIDER_TEXT: Final = (
    "The {where}, as the provider's documents describe it: {providers}. The provider verifies its signature, where the "
    "project has configured the secret; else the URL has the project's key. A bad item harms no other: it is kept in "
    "the project's quarantine, with the reasons."
)


def _of_any_provider(method: str, name: str, summary: str, where: str, body: Body | None = None) -> Operation:
    providers = [provider for provider in PROVIDERS.values() if method.upper() in provider.methods]
    listed = ", ".join(f"`{provider.name}` ({provider.title})" for provider in providers)
    return Operation(
        method,
        "/callbacks/{provider}/{project_id}",
        name,
        "callbacks",
        summary,
        _PROVIDER_TEXT.format(where=where, providers=listed),
        body=body,
        providers=tuple(provider.name for provider in providers),
    )


OPERATIONS: Final = (
    _callback("/sms/callback", "receiveForDefault", "Tencent callback for the default project"),
    _callback("/sms/callback/{project_id}", "receiveForProject", "Tencent callback for a project"),
    _of_any_provider("post", "receive", "Callback of any provider", "body", _PROVIDER_BODY),
    _of_any_provider("get", "receiveQuery", "Callback whose parameters are in the query", "query"),
    Operation(
        "get",
        f"{SMS}/callback",
        "ListSmsEvent",
        "lookups",
        "Topics that events go to",
        query=EventQuery,
        answer=EventList,
    ),
    Operation(
        "put",
        f"{SMS}/callback",
        "UpdateSmsEvent",
        "lookups",
        "Change topics at run time",
        "Kept in Redis, in force on every replica within a second, written to the log. Event types that are not named "
        "keep their route; an empty `topic_urn` takes one back to the configuration's. Up to 1,000 topics a project "
        f"over time: those of before are read on. A body has at most {PUT_BODY} bytes.",
        body=Body((Routes,)),
        answer=Updated,
        faults=(*error_codes.ROUTES.values(), error_codes.TOO_MANY_TOPICS),
    ),
    Operation(
        "get",
        f"{SMS}/report",
        "ListSmsMsgReport",
        "lookups",
        "Status reports, newest first",
        "The time of a report is its `deliver_time`, or its `submit_time` while its status is 0: where nobody has told "
        "that, the time of the state. With a `message_id` that several recipients share, as it is per request at some "
        "providers, there is a report for each of them. Messages that were "
        "registered without a `sign_id`, or not at all, have the project's: the configured one, else the project's id. "
        "`start_time` may be as old as reports are kept (and a minute more, for clients that compute it): "
        "RECEIVER_REPORT_RETENTION, 7 days unless set. Country code and national number are apart, whatever the "
        "spelling they came in; events keep the provider's.",
        query=ReportQueryArgs,
        answer=ReportList,
        faults=(error_codes.TOO_OLD, error_codes.REVERSED),
    ),
    Operation(
        "get",
        f"{SMS}/message/{{message_id}}",
        "GetSmsMessage",
        "lookups",
        "Text of a message",
        "For 24 hours after its `submit_time`. Where recipients share the `message_id`, the text registered last.",
        answer=MessageText,
        faults=(error_codes.MESSAGE_ID, error_codes.NO_MESSAGE, error_codes.OLD_MESSAGE),
    ),
    Operation(
        "put",
        f"{SMS}/message/{{message_id}}",
        "RegisterSmsMessage",
        "lookups",
        "Register a sent message",
        "Idempotent. Recipients that share the `message_id` are registered one by one. The status report may come "
        "before the registration: both orders end in the same state. "
        f"A body has at most {PUT_BODY} bytes.",
        body=Body((Sent,)),
        answer=Registered,
        faults=(error_codes.MESSAGE_ID, error_codes.TOO_MANY_SIGNS),
    ),
    Operation(
        "post",
        f"{SMS}/message",
        "RegisterSmsMessages",
        "lookups",
        "Register many sent messages",
        f"Up to {MAX_MESSAGES}. Idempotent; a bad one harms no other. 400 when none is good. A project has up to "
        "10,000 signatures at a time: a message with one more is refused. "
        f"A body has at most {BATCH_BODY} bytes, and each message in it {PUT_BODY}.",
        body=Body((SentInBatch,), array=True, most=MAX_MESSAGES),
        answer=RegisteredAll,
        faults=(error_codes.MALFORMED,),
    ),
    Operation(
        "post",
        "/v3/auth/tokens",
        "CreateToken",
        "tokens",
        "Token for a user and password",
        "Good for 24 hours, on every replica; a changed password revokes it. The token is in `X-Subject-Token`. "
        f"A body has at most {TOKEN_BODY} bytes.",
        body=Body((TokenRequest,)),
        answer=TokenIssued,
        status=201,
    ),
    Operation(
        "get",
        "/v3/projects",
        "ListProjects",
        "tokens",
        "Id of a project by its name",
        "A project's name is its region.",
        query=ProjectQuery,
        answer=ProjectList,
    ),
    Operation("get", "/livez", "livez", "operation", "Alive", answer="application/json"),
    Operation(
        "get",
        "/readyz",
        "readyz",
        "operation",
        "Ready to take events",
        "200 while Redis or the spool can durably take an event and the service is not stopping, else 503.",
        answer="application/json",
    ),
    Operation("get", "/metrics", "metrics", "operation", "Metrics for Prometheus", answer="text/plain"),
    Operation("get", "/openapi.json", "openapi", "operation", "This document", answer="application/json"),
    Operation("get", "/asyncapi.json", "asyncapi", "operation", "The event streams", answer="application/json"),
    Operation("get", "/docs", "docs", "operation", "API documentation as a web page", answer="text/html"),
)
