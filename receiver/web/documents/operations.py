"""The table of all operations. The OpenAPI document and its page are generated from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from receiver.providers import PROVIDERS
from receiver.providers.tencent import Reply, StatusReport
from receiver.web.console.viewers import LIFETIME, MAX_VIEWERS
from receiver.web.documents.samples import REPORT
from receiver.web.smn import error_codes
from receiver.web.smn.iam import TOKEN_BODY, ProjectQuery, TokenRequest
from receiver.web.smn.request_schemas import (
    BATCH_BODY,
    MAX_MESSAGES,
    PUT_BODY,
    EventQuery,
    FindQuery,
    ReportQueryArgs,
    Routes,
    Sent,
    SentInBatch,
)
from receiver.web.smn.response_schemas import (
    CallbackAnswer,
    EventList,
    FoundEvents,
    MessageText,
    ProjectList,
    Registered,
    RegisteredAll,
    ReportList,
    TokenIssued,
    Updated,
)
from receiver.web.static_files import NAMES

if TYPE_CHECKING:
    from marshmallow import Schema

SMS: Final = "/v2/{project_id}/notifications/sms"
TAGS: Final = {
    "callbacks": "A provider sends status reports and replies. Its ack means that every item is stored, in Redis or "
    "fsynced on disk. After any other response, send the callback again.",
    "lookups": "Sent messages, their status reports, and the topics of events: the SMS API of Huawei Cloud SMN. "
    "Authentication is by token or AK/SK signature.",
    "tokens": "The two calls to IAM that SMN's SDKs make first, answered from the configuration.",
    "operation": "Health, metrics, and the documents.",
}


class RequestBody(NamedTuple):
    """A request's body: one of ``schemas``, or an array of them, or (``both``) either; any JSON without schemas.

    ``others`` are media types that it may have besides JSON.
    """

    schemas: tuple[type[Schema], ...]
    array: bool = False
    both: bool = False
    max_items: int | None = None
    others: tuple[str, ...] = ()
    example: object = None


class Operation(NamedTuple):
    """One operation. ``response`` is a schema, or the media types of other responses, separated by blanks.

    ``providers`` are those that the path may name. Each answers in its own format. ``files`` are the names of files.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str = ""
    query: type[Schema] | None = None
    body: RequestBody | None = None
    response: type[Schema] | str | None = None
    status: int = 200
    errors: tuple[error_codes.SmnErrorCode, ...] = ()
    providers: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


_CALLBACK: Final = RequestBody((StatusReport, Reply), array=True, both=True, example=[REPORT])
_CALLBACK_TEXT: Final = (
    "An array of status reports and replies, a single report, or a single reply. The Content-Type is ignored. An "
    "invalid item goes to the project's quarantine, with the reasons, and does not affect the others. Unknown fields "
    "are kept under `data.extra`."
)


_SENT: Final = {"message": "【Example】 Code: 1234", "mobile": REPORT["mobile"], "nation_code": REPORT["nationcode"]}


def _callback(path: str, name: str, summary: str) -> Operation:
    return Operation("post", path, name, "callbacks", summary, _CALLBACK_TEXT, body=_CALLBACK, response=CallbackAnswer)


_PROVIDER_BODY: Final = RequestBody((), others=("application/x-www-form-urlencoded", "text/plain"), example=[REPORT])
_PROVIDER_TEXT: Final = (
    "The {where}, as the provider's documents describe it: {providers}. The provider verifies its signature, where the "
    "project has configured the secret; else the URL has the project's key. A bad item harms no other: it is kept in "
    "the project's quarantine, with the reasons."
)


def _of_any_provider(method: str, name: str, summary: str, where: str, body: RequestBody | None = None) -> Operation:
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
        "Topics of the event types",
        query=EventQuery,
        response=EventList,
    ),
    Operation(
        "put",
        f"{SMS}/callback",
        "UpdateSmsEvent",
        "lookups",
        "Change topics at run time",
        "Stored in Redis, effective on every replica within a second, and logged. Event types that are not listed keep "
        "their routes; an empty `topic_urn` restores the configured route. A project can use up to 1,000 topics over "
        f"time, because former topics are still read. A body has at most {PUT_BODY} bytes.",
        body=RequestBody((Routes,)),
        response=Updated,
        errors=(*error_codes.ROUTES.values(), error_codes.TOO_MANY_TOPICS),
    ),
    Operation(
        "get",
        f"{SMS}/report",
        "ListSmsMsgReport",
        "lookups",
        "Status reports, newest first",
        "The time of a report is its `deliver_time`, or its `submit_time` while its status is 0: where that is "
        "unknown, the time of the state. With a `message_id` that several recipients share, as it is per request at "
        "some providers, there is a report for each of them. Messages that were registered "
        "without a `sign_id`, or not at all, have the project's: the configured one, else the project's id. "
        "`start_time` may be as old as the retention, RECEIVER_REPORT_RETENTION (7 days by default), and a minute "
        "more, for clients that compute it. Country code and national number are separate fields here; events keep "
        "the provider's spelling.",
        query=ReportQueryArgs,
        response=ReportList,
        errors=(error_codes.TOO_OLD, error_codes.REVERSED),
    ),
    Operation(
        "get",
        f"{SMS}/events/{{id}}",
        "FindSmsEvents",
        "lookups",
        "What became of a message",
        "Searches the streams, the quarantine, the report index and the spool of the replica that answers. `verdict` "
        "is `published`; `spooled`, safe on disk while Redis is away; `duplicate`, spooled and already in its stream; "
        "`dead-lettered`; `quarantined`; `trimmed`, published and not in the stream any more; or `not seen`. For an "
        "entry in a stream, `groups` shows what each consumer group has done with it. A request searches for two "
        "seconds at most: where `complete` is false, ask again with `end_time` set to `next_end_time`. Only one search "
        "runs at a time.",
        query=FindQuery,
        response=FoundEvents,
        errors=(error_codes.MESSAGE_ID,),
    ),
    Operation(
        "get",
        f"{SMS}/message/{{message_id}}",
        "GetSmsMessage",
        "lookups",
        "Text of a message",
        "For 24 hours after its `submit_time`. Where recipients share the `message_id`, the text registered last.",
        response=MessageText,
        errors=(error_codes.MESSAGE_ID, error_codes.NO_MESSAGE, error_codes.OLD_MESSAGE),
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
        body=RequestBody((Sent,), example=_SENT),
        response=Registered,
        errors=(error_codes.MESSAGE_ID, error_codes.TOO_MANY_SIGNS),
    ),
    Operation(
        "post",
        f"{SMS}/message",
        "RegisterSmsMessages",
        "lookups",
        "Register many sent messages",
        f"Up to {MAX_MESSAGES}. Idempotent. An invalid message does not affect the others; 400 if none is valid. A "
        "project has up to 10,000 signatures at a time: a message with one more is refused. "
        f"A body has at most {BATCH_BODY} bytes, and each message in it {PUT_BODY}.",
        body=RequestBody(
            (SentInBatch,), array=True, max_items=MAX_MESSAGES, example=[{"message_id": REPORT["sid"], **_SENT}]
        ),
        response=RegisteredAll,
        errors=(error_codes.MALFORMED,),
    ),
    Operation(
        "post",
        "/v3/auth/tokens",
        "CreateToken",
        "tokens",
        "Token for a user and password",
        "Valid for 24 hours, on every replica; a changed password revokes it. The token is in `X-Subject-Token`. "
        f"A body has at most {TOKEN_BODY} bytes.",
        body=RequestBody((TokenRequest,)),
        response=TokenIssued,
        status=201,
    ),
    Operation(
        "get",
        "/v3/projects",
        "ListProjects",
        "tokens",
        "Find a project's id by its name",
        "A project's name is its region.",
        query=ProjectQuery,
        response=ProjectList,
    ),
    Operation("get", "/livez", "livez", "operation", "Alive", response="application/json"),
    Operation(
        "get",
        "/readyz",
        "readyz",
        "operation",
        "Readiness to accept events",
        "200 while Redis or the spool can durably store events and the service is not stopping, else 503.",
        response="application/json",
    ),
    Operation("get", "/metrics", "metrics", "operation", "Metrics for Prometheus", response="text/plain"),
    Operation("get", "/openapi.json", "openapi", "operation", "This document", response="application/json"),
    Operation("get", "/asyncapi.json", "asyncapi", "operation", "The event streams", response="application/json"),
    Operation("get", "/docs", "docs", "operation", "API documentation as a web page", response="text/html"),
    Operation(
        "get",
        "/v2/{project_id}/console/events",
        "WatchEvents",
        "lookups",
        "What happens, as server-sent events",
        "A message each second: the latest events with masked numbers and without texts, rates by type and provider, "
        "delays, routes, consumer groups, quarantine and workers. It is the source of the console, and its members may "
        f"change. A stream ends after {LIFETIME / 60:g} minutes, or when its client does not read; at most "
        f"{MAX_VIEWERS} are open in a process.",
        response="text/event-stream",
    ),
    Operation(
        "get",
        "/console",
        "console",
        "operation",
        "The console as a web page",
        "It holds no data: it asks for a token, and uses it for the lookups.",
        response="text/html",
    ),
    Operation(
        "get",
        "/static/{file}",
        "static",
        "operation",
        "A file of the web pages",
        response="text/css text/javascript image/svg+xml",
        files=tuple(NAMES),
    ),
)
