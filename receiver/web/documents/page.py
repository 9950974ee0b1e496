"""Both documents as one HTML page: no script, no external resource, light and dark."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final

from receiver.web.documents.examples import example

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Json = dict[str, Any]

_TEMPLATE: Final = Template(files("receiver.web").joinpath("docs.html").read_text("utf-8"))


def page(openapi: Json, asyncapi: Json) -> str:
    """Return the page for both documents."""
    schemas: Json = openapi["components"]["schemas"]
    tags = [(tag["name"], tag["description"], list(_tagged(openapi, tag["name"]))) for tag in openapi["tags"]]
    return _TEMPLATE.substitute(
        title=escape(openapi["info"]["title"]),
        version=escape(openapi["info"]["version"]),
        description=_text(openapi["info"]["description"]),
        contents="".join(_contents(name, operations) for name, _, operations in tags) + _MORE,
        security=_security(openapi["components"]["securitySchemes"]),
        sections="".join(_section(name, about, operations, schemas) for name, about, operations in tags),
        streams=_streams(asyncapi),
        schemas=_schemas({**schemas, **asyncapi["components"]["schemas"]}),
    )


_MORE: Final = '<h2>More</h2><a href="#streams">Event streams</a><a href="#schemas">Schemas</a>'


def _tagged(openapi: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            if tag in operation["tags"]:
                yield method, path, operation


def _contents(tag: str, operations: Iterable[tuple[str, str, Json]]) -> str:
    links = "".join(f'<a href="#{o["operationId"]}">{escape(o["summary"])}</a>' for _, _, o in operations)
    return f"<h2>{escape(tag.capitalize())}</h2>{links}"


def _section(tag: str, about: str, operations: Iterable[tuple[str, str, Json]], schemas: Json) -> str:
    articles = "".join(_article(method, path, operation, schemas) for method, path, operation in operations)
    return f"<section><h2>{escape(tag)}</h2><p>{_text(about)}</p>{articles}</section>"


def _article(method: str, path: str, operation: Json, schemas: Json) -> str:
    parts = [
        f'<article id="{operation["operationId"]}">',
        f'<h3><b class="{method}">{method.upper()}</b> {escape(path)}</h3>',
        f"<p><strong>{escape(operation['summary'])}.</strong> {_text(operation['description'])}</p>",
        _table("Parameters", (_parameter(one) for one in operation["parameters"])),
        *_body(operation, schemas),
        _table("Responses", (_response(status, one) for status, one in sorted(operation["responses"].items()))),
        *_good_example(operation, schemas),
        "</article>",
    ]
    return "".join(parts)


def _parameter(parameter: Json) -> tuple[str, ...]:
    required = " <i>required</i>" if parameter.get("required") else ""
    name = f"{escape(parameter['name'])}{required}"
    return name, escape(parameter["in"]), _type(parameter["schema"]), _text(parameter.get("description", ""))


def _response(status: str, response: Json) -> tuple[str, ...]:
    types = [_type(content["schema"]) for content in response.get("content", {}).values()]
    return status, ", ".join(types), _text(response["description"])


def _body(operation: Json, schemas: Json) -> Iterator[str]:
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        sample = content.get("example") or example(content["schema"], schemas)
        yield f"<h4>Body</h4><p>{_type(content['schema'])}</p>{_code(sample)}"


def _good_example(operation: Json, schemas: Json) -> Iterator[str]:
    status, answer = min(operation["responses"].items())
    schema = answer["content"].get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        yield f"<h4>Example of {status}</h4>{_code(example(schema, schemas))}"


def _security(schemes: Json) -> str:
    rows = ((escape(one["name"]), escape(one["in"]), _text(one["description"])) for one in schemes.values())
    return _table("Authentication", rows)


def _streams(asyncapi: Json) -> str:
    rows = (
        (escape(channel["address"]), escape(name), _text(channel["description"]))
        for name, channel in asyncapi["channels"].items()
    )
    about = _text(asyncapi["info"]["description"])
    return f'<section id="streams"><h2>Event streams</h2><p>{about}</p>{_table("Topics", rows)}</section>'


def _schemas(schemas: Json) -> str:
    articles = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    return f'<section id="schemas"><h2>Schemas</h2>{articles}</section>'


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (
            escape(field) + (" <i>required</i>" if field in required else ""),
            _type(about),
            _text(about.get("description", "")),
        )
        for field, about in schema.get("properties", {}).items()
    )
    return f'<article id="schema-{name}"><h3>{name}</h3>{_table("", rows)}</article>'


def _type(schema: Json) -> str:
    """Describe a JSON Schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        items = _type(schema.get("items", {}))
        return f"array of ({items})" if " or " in items else f"array of {items}"
    return escape(_scalar(schema))


def _scalar(schema: Mapping[str, Any]) -> str:
    json_type = schema.get("type", "any")
    words = [" or ".join(json_type) if isinstance(json_type, list) else json_type]
    if "enum" in schema:
        words = [" | ".join(map(str, schema["enum"]))]
    low = schema.get("minimum", schema.get("minLength"))
    high = schema.get("maximum", schema.get("maxLength"))
    if low is not None or high is not None:
        words.append(f"{'' if low is None else low}…{'' if high is None else high}")
    if "default" in schema:
        words.append(f"= {schema['default']}")
    return " ".join(words)


def _table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    heading = f"<h4>{title}</h4>" if title else ""
    return f'{heading}<div class="wide"><table>{body}</table></div>' if body else ""


def _code(value: Any) -> str:  # noqa: ANN401 any JSON
    return f"<pre>{escape(json.dumps(value, ensure_ascii=False, indent=2))}</pre>"


def _text(markdown: str) -> str:
    """Return HTML for the Markdown that the documents use: code, and links within the service."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(markdown))
    return re.sub(r"\[([^\]]+)\]\(([a-z.]+)\)", r'<a href="/\2">\1</a>', marked)
