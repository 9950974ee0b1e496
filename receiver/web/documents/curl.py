"""A command line for each operation, that works as it stands: tests/web/test_openapi.py runs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from receiver.providers import DEFAULT
from receiver.web.documents.examples import example
from receiver.web.documents.samples import PROJECT
from receiver.web.ports import is_public

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bases(NamedTuple):
    """The URLs of the two ports on the service's own machine, which are equal if one port serves all."""

    public: str
    internal: str

    @classmethod
    def of(cls, port: int, internal_port: int | None) -> Bases:
        """Return the URLs of the ports."""
        return cls(*(f"http://localhost:{number}" for number in (port, internal_port or port)))


#: Values of parameters whose schemas have no example, and of times, which have to be recent.
_VALUES: Final = {
    "project_id": PROJECT,
    "provider": DEFAULT.name,
    "start_time": "$(($(date +%s)-3600))000",
    "end_time": "$(date +%s)000",
}
#: A provider that sends its callbacks in the query, and one of them.
_BY_QUERY: Final = ("kannel", "id=order-17&status=1&from=1069000&to=%2B8613800138000&ts=1772330403")
#: Where credentials go, by security scheme.
_HEADERS: Final = {"token": "X-Auth-Token: $TOKEN"}
_QUERY: Final = {"callbackKey": "key=$KEY"}


def curl(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any], bases: Bases) -> str:
    """Return the command for an operation of the OpenAPI document. It reads KEY and TOKEN from the environment."""
    base = bases.public if is_public(path) else bases.internal
    schemes = [name for one in operation.get("security", ()) for name in one]
    query = [_QUERY[name] for name in schemes if name in _QUERY]
    values = dict(_VALUES)
    if operation["operationId"] == "receiveQuery":
        values["provider"], parameters = _BY_QUERY
        query.append(parameters)
    for parameter in operation["parameters"]:
        value = values.get(parameter["name"]) or str(example(parameter["schema"], schemas))
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", value)
        elif parameter.get("required"):
            query.append(f"{parameter['name']}={value}")
    url = f"{base}{path}{'?' if query else ''}{'&'.join(query)}"
    parts = [f'curl{_options(method, operation)} "{url}"']
    parts += [f'-H "{_HEADERS[name]}"' for name in schemes if name in _HEADERS]
    parts += [f"-d {_quoted(body)}" for body in sample_body(operation, schemas)]
    return " \\\n  ".join(parts)


def sample_body(operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[Any]:
    """Yield the body that an operation's document shows, if it has one."""
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        yield content.get("example") or example(content["schema"], schemas)


def _options(method: str, operation: dict[str, Any]) -> str:
    if method not in ("get", "post"):
        return f" -X {method.upper()}"
    (types,) = [
        answer.get("content", {}) for status, answer in operation["responses"].items() if status.startswith("2")
    ]
    return " -N" if "text/event-stream" in types else ""


def _quoted(body: Any) -> str:  # noqa: ANN401 any JSON
    text = json.dumps(body, ensure_ascii=False)
    return "'" + text.replace("'", r"'\''") + "'"
