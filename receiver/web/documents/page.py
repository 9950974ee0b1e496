"""Both documents as one HTML page: no script, light and dark, for a laptop and a phone."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final

from receiver.web.documents.curl import Bases, curl, sample_body
from receiver.web.documents.examples import example

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Json = dict[str, Any]

_TEMPLATE: Final = Template(files("receiver.web").joinpath("static", "docs.html").read_text("utf-8"))


def page(openapi: Json, asyncapi: Json, bases: Bases) -> str:
    """Return the page for both documents. ``bases`` are the URLs in its command lines."""
    schemas: Json = openapi["components"]["schemas"]
    tags = [(tag["name"], tag["description"], list(_tagged(openapi, tag["name"]))) for tag in openapi["tags"]]
    return _TEMPLATE.substitute(
        title=escape(openapi["info"]["title"]),
        version=escape(openapi["info"]["version"]),
        description=_text(openapi["info"]["description"]),
        contents="".join(_contents(name, operations) for name, _, operations in tags) + _MORE,
        security=_security(openapi["components"]["securitySchemes"]),
        sections="".join(_section(*tag, openapi["components"], bases) for tag in tags),
        streams=_streams(asyncapi),
        schemas=_schemas({**schemas, **asyncapi["components"]["schemas"]}),
    )


_MORE: Final = '<h2>More</h2><a href="#streams">Event streams</a><a href="#schemas">Schemas</a>'
#: How to see events of a type, without the URL of Redis and its password.
_READ: Final = "receiver tail --type {} --since 1h --json"


def _tagged(openapi: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            if tag in operation["tags"]:
                yield method, path, operation


def _contents(tag: str, operations: Iterable[tuple[str, str, Json]]) -> str:
    links = "".join(f'<a href="#{o["operationId"]}">{escape(o["summary"])}</a>' for _, _, o in operations)
    return f"<h2>{escape(tag.capitalize())}</h2>{links}"


def _section(tag: str, about: str, operations: Iterable[tuple[str, str, Json]], components: Json, bases: Bases) -> str:
    articles = "".join(_article(*operation, components, bases) for operation in operations)
    heading = f'<h2 id="tag-{tag}">{escape(tag)}</h2><p>{_text(about)}</p>'
    return f'<section aria-labelledby="tag-{tag}">{heading}{articles}</section>'


def _article(method: str, path: str, operation: Json, components: Json, bases: Bases) -> str:
    """Return an operation, folded up. A link to its heading, or a search in the page, unfolds it."""
    schemas: Json = components["schemas"]
    summary = f'<b class="{method}">{method.upper()}</b> {_path(path)} <span>{escape(operation["summary"])}</span>'
    parts = [
        f'<details class="operation"><summary>{summary}</summary><article>',
        f'<h3 id="{operation["operationId"]}">{escape(operation["summary"])}</h3>',
        f"<p>{_text(operation['description'])}</p>",
        f'<p class="auth"><b>Authentication</b> {_authentication(operation, components["securitySchemes"])}</p>',
        f"<h4>Try it</h4>{_pre(curl(method, path, operation, schemas, bases), 'command')}",
        _table("Parameters", (_parameter(one) for one in operation["parameters"])),
        *_body(operation, schemas),
        _table("Responses", (_response(status, one) for status, one in sorted(operation["responses"].items()))),
        *_good_example(operation, schemas),
        "</article></details>",
    ]
    return "".join(parts)


def _path(path: str) -> str:
    """Return a path that may wrap before its slashes."""
    return "<code>" + escape(path).replace("/", "<wbr>/") + "</code>"


def _authentication(operation: Json, schemes: Json) -> str:
    used = [schemes[name] for one in operation.get("security", ()) for name in one]
    if not used:
        return "none"
    ways = " or ".join(f"<code>{escape(one['name'])}</code> ({one['in']})" for one in used)
    signed = ", or the provider's signature" if operation["tags"] == ["callbacks"] else ""
    return f"{ways}{signed}; none for an open project"


def _parameter(parameter: Json) -> tuple[str, ...]:
    required = " <i>required</i>" if parameter.get("required") else ""
    name = f"{escape(parameter['name'])}{required}"
    return name, escape(parameter["in"]), _type(parameter["schema"]), _text(parameter.get("description", ""))


def _response(status: str, response: Json) -> tuple[str, ...]:
    types = [_type(content["schema"]) for content in response.get("content", {}).values()]
    return status, ", ".join(types), _text(response["description"])


def _body(operation: Json, schemas: Json) -> Iterator[str]:
    for sample in sample_body(operation, schemas):
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        yield f"<h4>Body</h4><p>{_type(schema)}</p>{_code(sample)}"


def _good_example(operation: Json, schemas: Json) -> Iterator[str]:
    status, answer = min(operation["responses"].items())
    schema = answer["content"].get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        yield f"<h4>Example of {status}</h4>{_code(example(schema, schemas))}"


def _security(schemes: Json) -> str:
    rows = ((escape(one["name"]), escape(one["in"]), _text(one["description"])) for one in schemes.values())
    return _table("Authentication", rows)


def _streams(asyncapi: Json) -> str:
    messages: Json = asyncapi["components"]["messages"]
    events = "".join(
        _event(name, channel, messages[name]["examples"][0]["payload"])
        for name, channel in asyncapi["channels"].items()
    )
    about = _text(asyncapi["info"]["description"])
    return f'<section aria-labelledby="streams"><h2 id="streams">Event streams</h2><p>{about}</p>{events}</section>'


def _event(name: str, channel: Json, sample: Json) -> str:
    """Return a type of event with its topic and a sample, folded up."""
    topic = escape(channel["address"])
    read = _READ.format(name.removeprefix("sms_").removesuffix("_event"))
    return (
        f'<details class="operation"><summary><b class="event">EVENT</b> <code>{escape(name)}</code> '
        f"<span>{topic.rpartition(':')[2]}</span></summary><article>"
        f'<h3 id="event-{escape(name)}">{escape(name)}</h3><p>{_text(channel["description"])}</p>'
        f"<p>Topic <code>{topic}</code></p><h4>Sample</h4>{_code(sample)}"
        f"<h4>Read those of the last hour, and new ones</h4>{_pre(read, 'command')}</article></details>"
    )


def _schemas(schemas: Json) -> str:
    articles = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    return f'<section aria-labelledby="schemas"><h2 id="schemas">Schemas</h2>{articles}</section>'


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
    return (
        f'<details class="operation"><summary><code>{name}</code></summary><article>'
        f'<h3 id="schema-{name}">{name}</h3>{_table("", rows)}</article></details>'
    )


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
    return f"{heading}<table>{body}</table>" if body else ""


def _code(value: Any) -> str:  # noqa: ANN401 any JSON
    return _pre(json.dumps(value, ensure_ascii=False, indent=2))


def _pre(text: str, name: str = "") -> str:
    """Return a block of text that scrolls by itself, by keyboard as well."""
    return f'<pre class="{name}" tabindex="0">{escape(text)}</pre>'


def _text(markdown: str) -> str:
    """Return HTML for the Markdown that the documents use: code, and links within the service."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(markdown))
    return re.sub(r"\[([^\]]+)\]\(([a-z.]+)\)", r'<a href="\2">\1</a>', marked)
