"""A marshmallow schema as a fast decoder of JSON: from bytes straight to structs.

The schema stays the one source of truth. From its declared fields and validators this module builds a msgspec
struct that accepts a subset of what the schema accepts, with the same values. What the struct does not accept may
still be good: ask the schema, which alone produces errors. A schema with a feature that cannot be carried over
(hooks, for example) has no struct at all.

Nothing here knows what the schemas are about.

=====================================  ============================================================
in the schema                          in the struct
=====================================  ============================================================
``String`` with Length, Regexp, OneOf  ``str`` with bounds and pattern, or a ``Literal``: checked in C
any other field or validator           the field's own ``deserialize``, called for the decoded value
``data_key``, ``attribute``            the name in the JSON, the name in the struct
``required``, ``load_default``         no default; the default. Neither: ``msgspec.UNSET``
``allow_none``                         ``… | None``
``unknown``: INCLUDE or RAISE          unknown fields are not accepted, so that the schema deals with them
=====================================  ============================================================
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing, validate

if TYPE_CHECKING:
    from collections.abc import Callable

#: Fields whose value depends on nothing but a short text, so that a repeated text need not be parsed again.
_PURE = (fields.DateTime, fields.NaiveDateTime, fields.AwareDateTime, fields.Date, fields.Time)


class InexpressibleError(TypeError):
    """The schema has a feature for which there is no struct. Use the schema alone."""


def struct_of(schema: type[Schema]) -> type[msgspec.Struct]:
    """Return a struct type that accepts a subset of what the schema loads, with the same values.

    Decode with ``dec_hook=deserialize``. Raises InexpressibleError for schemas with hooks.
    """
    instance = schema()
    if any(instance._hooks.values()):  # noqa: SLF001 marshmallow has no public way to ask
        raise InexpressibleError(f"{schema.__name__} has hooks: their effect cannot be known beforehand")
    members = [_member(name, field) for name, field in instance.load_fields.items()]
    return msgspec.defstruct(
        schema.__name__,
        [member[:3] for member in members],
        rename={member[0]: member[3] for member in members},
        forbid_unknown_fields=instance.unknown != EXCLUDE,
        kw_only=True,
        gc=False,
    )


def deserialize(kind: type[Any], value: Any) -> Any:  # noqa: ANN401 any JSON in, whatever the field makes of it out
    """Load a value with the field that ``kind`` stands for: msgspec's ``dec_hook``."""
    load: Callable[[Any], Any] = kind.load
    try:
        return load(value)
    except (ValidationError, TypeError) as error:  # TypeError: a value that the cache cannot hold
        raise ValueError(str(error)) from None


def _member(name: str, field: fields.Field[Any]) -> tuple[str, Any, Any, str]:
    kind: Any = _native(field) or _deferred(field)
    if field.allow_none:
        kind |= None
    attribute = field.attribute or name
    if not attribute.isidentifier():
        raise InexpressibleError(f"{attribute!r} cannot be the name of an attribute")
    default: Any = msgspec.NODEFAULT
    if not field.required:
        default = field.load_default
        if default is missing:
            kind |= msgspec.UnsetType
            default = msgspec.UNSET
        elif callable(default):
            default = msgspec.field(default_factory=default)
    return attribute, kind, default, field.data_key or name


def _native(field: fields.Field[Any]) -> Any:  # noqa: ANN401 a type expression
    """Return the type for a plain text field whose validators all have a counterpart in msgspec, else None."""
    if type(field) is not fields.String or field.pre_load or field.post_load:
        return None
    kind: Any = str
    for validator in field.validators:
        if type(validator) is validate.OneOf and kind is str and all(isinstance(c, str) for c in validator.choices):
            kind = Literal[tuple(validator.choices)]
        elif type(validator) is validate.Length and validator.equal is None:
            kind = Annotated[kind, msgspec.Meta(min_length=validator.min, max_length=validator.max)]
        elif type(validator) is validate.Regexp and validator.regex.flags == re.UNICODE:
            # msgspec searches where marshmallow matches from the start.
            kind = Annotated[kind, msgspec.Meta(pattern=rf"\A(?:{validator.regex.pattern})")]
        else:
            return None
    return kind


class _Deferred(type):
    """The type of types that stand for a field. msgspec checks what ``dec_hook`` returns; the field has done so."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def _deferred(field: fields.Field[Any]) -> type[Any]:
    """Return a type that msgspec does not know, so that it hands the decoded value to ``deserialize``."""
    load: Callable[[Any], Any] = field.deserialize
    if type(field) in _PURE and not field.pre_load and not field.post_load:
        load = lru_cache(maxsize=8192)(load)
    return _Deferred(type(field).__name__, (), {"load": staticmethod(load)})
