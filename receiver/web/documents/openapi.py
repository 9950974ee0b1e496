"""The OpenAPI 3.1 document, generated from the schemas of requests and responses.

https://spec.openapis.org/oas/v3.1.0.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

from receiver.providers import PROVIDERS
from receiver.providers.base import JSON, Answer
from receiver.routing import PROJECT_ID
from receiver.web.callback_auth import KEY_HEADER
from receiver.web.documents.operations import OPERATIONS, TAGS, Operation, RequestBody
from receiver.web.smn import error_codes
from receiver.web.smn.request_schemas import FindPath, MessagePath
from receiver.web.smn.response_schemas import CallbackAnswer, GatewayErrorAnswer, SmnErrorAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION: Final = version("sms-callback-receiver")
_SECURITY: Final = {
    "callbackKey": ("query", "key", "The project's callback key, in the callback URL."),
    "callbackKeyHeader": ("header", KEY_HEADER, "The project's callback key, which proxies log in a URL."),
    "token": ("header", "X-Auth-Token", "A configured token, or one issued by `POST /v3/auth/tokens`."),
    "signature": (
        "header",
        "Authorization",
        "An AK/SK signature, as Huawei Cloud's SDKs create it, with `X-Sdk-Date`. It covers the uncompressed body.",
    ),
}
_ALLOWED: Final[dict[str, list[dict[str, list[str]]]]] = {
    "callbacks": [{"callbackKey": []}, {"callbackKeyHeader": []}],
    "lookups": [{"token": []}, {"signature": []}],
}
_CALLBACK_ERRORS: Final = {
    400: "Invalid JSON, not an array or object, or no valid item. The items are quarantined.",
    401: "The key is missing or wrong.",
    403: "The client's address is not allowed; or the project is open, and a web page seems to have sent the request.",
    404: "Unknown project or provider.",
    408: "The body did not arrive in time.",
    429: "The key is missing or wrong, after too many wrong ones from the same address. A right one is accepted.",
    413: "The body or the number of items exceeds the limit.",
    503: "Neither Redis nor the spool accepts events, or the service is overloaded: retry after `Retry-After`.",
}
_PROVIDER_ERRORS: Final = _CALLBACK_ERRORS | {
    400: "Not in the provider's format, or no item valid (these are quarantined too). Providers that drop items after "
    "a 4xx get their ack.",
    401: "The signature or the key is wrong or missing.",
    405: "The provider has no such callbacks.",
    503: "Neither Redis nor the spool can take it, overloaded, or the signature cannot be checked now: send it again "
    "after `Retry-After`.",
}
#: What answers in the providers' formats may be.
_PROVIDER_TYPES: Final = sorted({JSON, Answer(200).content_type, *(one.ack.content_type for one in PROVIDERS.values())})
_BODY_ERRORS: Final = {
    408: "The body did not arrive in time.",
    413: "The body exceeds the limit.",
    503: "Overloaded: retry after `Retry-After`.",
}
_FROM_A_PAGE: Final = (
    f"`{error_codes.FORBIDDEN.code}` The project is open, and a web page seems to have sent the request."
)
#: Regular expressions for Python's time directives.
_DIGITS: Final = {"%Y": "[0-9]{4}"} | dict.fromkeys(("%m", "%d", "%H", "%M", "%S"), "[0-9]{2}")


def document() -> dict[str, Any]:
    """Return the whole document."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec(
        title="SMS callback receiver",
        version=_VERSION,
        openapi_version="3.1.0",
        info={"description": "Callbacks of SMS providers in, normalised events in Redis streams out. " + _STREAMS},
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        plugins=[plugin],
    )
    if plugin.converter is None:
        raise AssertionError("apispec creates the plugin's converter in APISpec()")
    plugin.converter.add_attribute_function(_python_notation)  # type: ignore[no-untyped-call]
    for scheme, (location, name, text) in _SECURITY.items():
        spec.components.security_scheme(scheme, {"type": "apiKey", "in": location, "name": name, "description": text})
    for operation in OPERATIONS:
        spec.path(operation.path, operations={operation.method: _operation(operation)})
    whole: dict[str, Any] = _without_nulls(spec.to_dict())
    return whole


def _without_nulls(node: Any) -> Any:  # noqa: ANN401 any JSON
    """Remove members that apispec sets to null: OpenAPI does not allow them."""
    if isinstance(node, dict):
        return {name: _without_nulls(value) for name, value in node.items() if value is not None}
    return [_without_nulls(value) for value in node] if isinstance(node, list) else node


_STREAMS: Final = "The streams are described in [asyncapi.json](asyncapi.json)."


def _name(schema: Any) -> str:  # noqa: ANN401 a schema, or its class
    return (schema if isinstance(schema, type) else type(schema)).__name__


def _python_notation(_converter: Any, field: fields.Field[Any], **_options: Any) -> dict[str, Any]:  # noqa: ANN401 apispec's
    """Translate Python's time formats and pattern anchors into portable patterns."""
    if isinstance(field, fields.DateTime) and field.format and "%" in field.format:
        pattern = field.format
        for code, digits in _DIGITS.items():
            pattern = pattern.replace(code, digits)
        return {"pattern": f"^{pattern}$"}
    for validator in field.validators:
        regex = getattr(validator, "regex", None)
        if regex is not None:
            return {"pattern": "^" + regex.pattern.removeprefix("^").removesuffix(r"\Z").removesuffix("$") + "$"}
    return {}


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": {str(status): answer for status, answer in _answers(operation)},
    }
    if operation.body is not None:
        content: dict[str, Any] = {JSON: {"schema": _body(operation.body), "example": operation.body.example}}
        content |= {media: {"schema": _ANY[media]} for media in operation.body.others}
        described["requestBody"] = {"required": True, "content": content}
    if operation.tag in _ALLOWED:
        described["security"] = _ALLOWED[operation.tag]
    if operation.name == "ListProjects":
        described["security"] = _ALLOWED["lookups"]
    return described


#: Bodies that are not described further, by media type.
_ANY: Final[dict[str, dict[str, str]]] = {
    "application/x-www-form-urlencoded": {"type": "object"},
    "text/plain": {"type": "string"},
}


def _path_parameters(operation: Operation) -> Iterator[Any]:
    known = {
        "{project_id}": {"type": "string", "pattern": f"^{PROJECT_ID.pattern}$"},
        "{provider}": {"type": "string", "enum": [*operation.providers]},
        "{file}": {"type": "string", "enum": [*operation.files]},
    }
    for part, schema in known.items():
        if part in operation.path:
            yield {"in": "path", "name": part.strip("{}"), "required": True, "schema": schema}
    if "{message_id}" in operation.path:
        yield {"in": "path", "schema": MessagePath}
    if "{id}" in operation.path:
        yield {"in": "path", "schema": FindPath}


def _query_parameters(operation: Operation) -> Iterator[Any]:
    if operation.query is not None:
        yield {"in": "query", "schema": operation.query}


def _body(body: RequestBody) -> Any:  # noqa: ANN401 a schema's class, or JSON Schema around some
    if not body.schemas:
        return {}
    one: Any = body.schemas[0] if len(body.schemas) == 1 else {"anyOf": list(body.schemas)}
    if not body.array:
        return one
    many: dict[str, Any] = {"type": "array", "items": one}
    if body.max_items is not None:
        many["maxItems"] = body.max_items
    return {"anyOf": [many, *body.schemas]} if body.both else many


def _answers(operation: Operation) -> Iterator[tuple[int, dict[str, Any]]]:
    if operation.providers:
        yield from _provider_answers()
        return
    yield operation.status, _good(operation)
    if operation.tag == "callbacks":
        for status, text in _CALLBACK_ERRORS.items():
            yield status, _error(text, CallbackAnswer)
    if operation.name == "metrics":
        yield 403, _error("A project is open, and a web page seems to have sent the request.", CallbackAnswer)
    if operation.files:
        yield 404, _error("There is no such file.", CallbackAnswer)
    if operation.name == "readyz":
        yield 503, {"description": "Not ready.", "content": {JSON: {"schema": {"type": "object"}}}}
    if operation.tag in ("lookups", "tokens"):
        yield from _smn_errors(operation)


def _provider_answers() -> Iterator[tuple[int, dict[str, Any]]]:
    content: dict[str, Any] = {media: {"schema": {}} for media in _PROVIDER_TYPES}
    for status, text in {200: "Stored. The body is the provider's ack.", **_PROVIDER_ERRORS}.items():
        yield status, {"description": text, "content": content}


def _good(operation: Operation) -> dict[str, Any]:
    if isinstance(operation.response, str):
        schema: Any = {"type": "object" if operation.response == JSON else "string"}
        content = {media: {"schema": schema} for media in operation.response.split()}
        return {"description": operation.summary + ".", "content": content}
    described = _error("Stored." if operation.tag == "callbacks" else "Done.", operation.response)
    if operation.name == "CreateToken":
        described["headers"] = {"X-Subject-Token": {"description": "The token.", "schema": {"type": "string"}}}
    return described


def _smn_errors(operation: Operation) -> Iterator[tuple[int, dict[str, Any]]]:
    found: dict[int, list[error_codes.SmnErrorCode]] = {}
    general = error_codes.DATABASE, error_codes.INTERNAL
    for error in dict.fromkeys((*operation.errors, *_validation_errors(operation), *general)):
        found.setdefault(error.status, []).append(error)
    for status, listed in sorted(found.items()):
        yield status, _error("; ".join(f"`{error.code}` {error.message}" for error in listed), SmnErrorAnswer)
    yield 401, _error("`APIG.0301` Missing or wrong credentials.", GatewayErrorAnswer)
    yield 429, _error("`APIG.0308` Wrong credentials, after too many from the same address.", GatewayErrorAnswer)
    text = (
        f"`{error_codes.FORBIDDEN.code}` {error_codes.FORBIDDEN.message}"
        if operation.tag == "lookups"
        else _FROM_A_PAGE
    )
    yield 403, _error(text, SmnErrorAnswer)
    if operation.body is not None or operation.tag == "lookups":
        for status, text in _BODY_ERRORS.items():
            yield status, _error(text, SmnErrorAnswer)


def _validation_errors(operation: Operation) -> Iterator[error_codes.SmnErrorCode]:
    """Yield the errors that the schemas of an operation's query and body can raise."""
    schemas = (operation.query, *(operation.body.schemas if operation.body else ()))
    for schema in schemas:
        if schema is not None:
            yield from _of_schema(schema())
    if operation.body is not None:
        yield error_codes.MALFORMED


def _of_schema(schema: Schema) -> Iterator[error_codes.SmnErrorCode]:
    for field in schema.fields.values():
        inner = field.inner if isinstance(field, fields.List) else field
        if isinstance(inner, fields.Nested):
            yield from _of_schema(inner.schema)
        yield field.metadata.get("error_code", error_codes.MALFORMED)


def _error(text: str, schema: Any) -> dict[str, Any]:  # noqa: ANN401 a schema's class
    return {"description": text, "content": {JSON: {"schema": schema}}}
