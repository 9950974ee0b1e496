"""Examples generated from schemas, so that they are always up to date."""

from __future__ import annotations

from typing import Any, Final

#: Default examples by type.
_PLAIN: Final[dict[str, Any]] = {"string": "…", "integer": 1, "number": 1, "boolean": True, "null": None, "object": {}}


def example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:  # noqa: ANN401 any JSON
    """Return a value that matches a JSON Schema; ``schemas`` holds those that it refers to by name."""
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
    json_type = schema.get("type", "string")
    json_type = json_type[0] if isinstance(json_type, list) else json_type
    if json_type == "array":
        return [example(schema.get("items", {}), schemas)]
    if json_type == "object":
        return {name: example(inner, schemas) for name, inner in schema.get("properties", {}).items()}
    return _PLAIN[json_type]
