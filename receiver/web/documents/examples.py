"""Examples made from schemas, so that none can be out of date."""

from __future__ import annotations

from typing import Any, Final

#: Examples by type, where a schema gives none of its own.
_PLAIN: Final[dict[str, Any]] = {"string": "…", "integer": 1, "number": 1, "boolean": True, "null": None, "object": {}}


def example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:  # noqa: ANN401 any JSON
    """Return a value that a JSON Schema describes; ``schemas`` are those that it refers to by name."""
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], schemas)
    for key in ("example", "default", "const"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    return _of_type(schema, schemas)


def _of_type(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:  # noqa: ANN401 as above
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return [example(schema.get("items", {}), schemas)]
    if kind == "object":
        return {name: example(inner, schemas) for name, inner in schema.get("properties", {}).items()}
    return _PLAIN[kind]
