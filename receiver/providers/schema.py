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
``Nested``, one or many                the struct of the nested schema, or a list of them
``Raw`` that allows null                any value
any other field or validator           the field's own ``deserialize``, called for the decoded value
``data_key``, ``attribute``            the name in the JSON, the name in the struct
``required``, ``load_default``         no default; the default. Neither: ``msgspec.UNSET``
``allow_none``                         ``… | None``
``unknown``: INCLUDE or RAISE          unknown fields are not accepted, so that the schema deals with them
``unknown``: EXCLUDE                   unknown fields are skipped; their texts are not even looked at for UTF-8
=====================================  ============================================================

A struct has structs where the schema loads nested objects as dicts: ``build`` makes the former of the latter.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache, partial
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn

import msgspec
from marshmallow import EXCLUDE, Schema, fields, missing, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Fields whose value depends on nothing but a short text, so that a repeated text need not be parsed again; and the
#: validators of which the same holds.
_PURE: Final = (fields.DateTime, fields.NaiveDateTime, fields.AwareDateTime, fields.Date, fields.Time)
_PURE_VALIDATORS: Final = (validate.Range, validate.OneOf, validate.NoneOf, validate.Equal)
#: Characters of a text whose value is remembered; a cache of longer ones would be as large as callers like.
_MAX_REMEMBERED: Final = 64
#: What of a schema may be of its own; the rest of ``Schema`` decides how fields are loaded.
_LOADING: Final = ("load", "_do_load", "_deserialize", "_call_and_store", "dict_class")


class InexpressibleError(TypeError):
    """The schema has a feature for which there is no struct. Use the schema alone."""


@cache
def struct_of(schema: type[Schema]) -> type[msgspec.Struct]:
    """Return a struct type that accepts a subset of what the schema loads, with the same values.

    Decode with ``dec_hook=deserialize``. Raises InexpressibleError for schemas with hooks, or with names that a
    struct cannot have.
    """
    instance = schema()
    if any(instance._hooks.values()):  # noqa: SLF001 marshmallow has no public way to ask
        raise InexpressibleError(f"{schema.__name__} has hooks: their effect cannot be known beforehand")
    own = [name for name in _LOADING if getattr(schema, name) is not getattr(Schema, name)]
    if own:
        raise InexpressibleError(f"{schema.__name__} loads in a way of its own: {', '.join(own)}")
    members = [_member(name, field) for name, field in instance.load_fields.items()]
    try:
        struct = msgspec.defstruct(
            schema.__name__,
            [member[:3] for member in members],
            rename={member[0]: member[3] for member in members},
            forbid_unknown_fields=instance.unknown != EXCLUDE,
            kw_only=True,
            gc=False,
        )
        msgspec.json.Decoder(struct)  # finds fault with types that cannot be told apart or checked
    except (TypeError, ValueError) as error:  # two fields that read the same key, for example
        raise InexpressibleError(f"{schema.__name__}: {error}") from None
    return struct


def build(schema: Schema, loaded: Mapping[str, Any]) -> tuple[msgspec.Struct, dict[str, Any]]:
    """Return the struct of what a schema has loaded, and the fields that the schema does not know.

    Unknown fields of nested objects are in objects of their own, ``{"price": {"vat": 1}}``.
    """
    declared = {field.attribute or name: field for name, field in schema.load_fields.items()}
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in loaded.items():
        field = declared.get(name)
        if field is None:
            unknown[name] = value
        elif value is None or type(field) is not fields.Nested or _native(field) is None:
            known[name] = value
        else:
            known[name], rest = _build_nested(field, value)
            if rest:
                unknown[str(field.name if field.data_key is None else field.data_key)] = rest
    return struct_of(type(schema))(**known), unknown


def _build_nested(field: fields.Nested, value: Any) -> tuple[Any, Any]:  # noqa: ANN401 an object, or a list of them
    if not field.many:
        return build(field.schema, value)
    pairs = [build(field.schema, one) for one in value]
    unknown = [rest for _, rest in pairs]
    return [struct for struct, _ in pairs], unknown if any(unknown) else None


def deserialize(kind: type[Any], value: Any) -> Any:  # noqa: ANN401 any JSON in, whatever the field makes of it out
    """Load a value with the field that ``kind`` stands for: msgspec's ``dec_hook``."""
    load: Callable[[Any], Any] = kind.load
    if type(value) is str and len(value) > _MAX_REMEMBERED:
        load = kind.load_anew
    try:
        return load(value)
    except Exception as error:  # noqa: BLE001 whatever a field of others raises: the schema shall say
        raise ValueError(str(error)) from None


def _member(name: str, field: fields.Field[Any]) -> tuple[str, Any, Any, str]:
    attribute = field.attribute or name
    if not attribute.isidentifier():
        raise InexpressibleError(f"{attribute!r} cannot be the name of an attribute")
    key = name if field.data_key is None else field.data_key
    kind: Any = _native(field) or _deferred(field, key)
    if field.allow_none and not field.pre_load:  # which may make something of null
        kind |= None
    if field.required:
        return attribute, kind, msgspec.NODEFAULT, key
    if field.load_default is missing:
        return attribute, kind | msgspec.UnsetType, msgspec.UNSET, key
    default = field.load_default
    factory = default if callable(default) else lambda: default
    return attribute, kind, msgspec.field(default_factory=factory), key


def _native(field: fields.Field[Any]) -> Any:  # noqa: ANN401 a type expression
    """Return the type for a field whose validators all have a counterpart in msgspec, else None."""
    kinds = {type(validator) for validator in field.validators}
    if field.pre_load or field.post_load or len(kinds) < len(field.validators):
        return None
    native = _NATIVE.get(type(field))
    return None if native is None else native(field)


def _native_text(field: Any) -> Any:  # noqa: ANN401 a String; a type expression
    validators = field.validators
    if [type(validator) for validator in validators] == [validate.OneOf]:
        choices = tuple(validators[0].choices)
        return Literal[choices] if choices and all(type(choice) is str for choice in choices) else None
    metas = [_meta(validator) for validator in validators]
    if None in metas:
        return None
    kind: Any = str
    for meta in metas:
        kind = Annotated[kind, meta]
    return kind


def _native_any(field: Any) -> Any:  # noqa: ANN401 a Raw; a type expression
    return Any if field.allow_none and not field.validators else None


def _native_object(field: Any) -> Any:  # noqa: ANN401 a Nested; a type expression
    """Return the struct of a nested schema, or a list of it, or None where the field has a way of its own."""
    plain = isinstance(field.nested, type) and field.load_default is missing
    if not plain or field.only is not None or field.exclude or field.unknown:
        return None
    metas = [_meta(validator) for validator in field.validators if field.many and type(validator) is validate.Length]
    if None in metas or len(metas) < len(field.validators):
        return None
    try:
        nested: Schema = field.schema
        struct = struct_of(type(nested))
    except InexpressibleError:
        return None
    kind: Any = GenericAlias(list, struct) if field.many else struct
    return Annotated[kind, metas[0]] if metas else kind


_NATIVE: Final[Mapping[type[Any], Callable[[Any], Any]]] = {
    fields.String: _native_text,
    fields.Raw: _native_any,
    fields.Nested: _native_object,
}


def _meta(validator: Any) -> msgspec.Meta | None:  # noqa: ANN401 any callable
    if type(validator) is validate.Length and validator.equal is None:
        bounds = (validator.min, validator.max)
        return msgspec.Meta(min_length=bounds[0], max_length=bounds[1]) if min(b or 0 for b in bounds) >= 0 else None
    if type(validator) is validate.Regexp and validator.regex.flags == re.UNICODE:
        # msgspec searches where marshmallow matches from the start.
        return msgspec.Meta(pattern=rf"\A(?:{validator.regex.pattern!s})")
    return None


class _Deferred(type):
    """The type of types that stand for a field. msgspec checks what ``dec_hook`` returns; the field has done so."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class _Unseen:
    """Stands for the fields beside the one that is loaded, which are not there yet. Who asks is sent to the schema."""

    def _refuse(self, *_: object) -> NoReturn:
        raise InexpressibleError("a field that looks at its siblings")

    __getattr__ = __getitem__ = __contains__ = __iter__ = __len__ = __bool__ = _refuse


_UNSEEN: Final[Any] = _Unseen()


def _deferred(field: fields.Field[Any], key: str) -> type[Any]:
    """Return a type that msgspec does not know, so that it hands the decoded value to ``deserialize``."""
    load: Callable[[Any], Any] = partial(field.deserialize, attr=key, data=_UNSEEN)
    load_anew = staticmethod(load)
    pure = type(field) in _PURE or getattr(field, "pure", False)
    pure = pure and all(type(validator) in _PURE_VALIDATORS for validator in field.validators)
    if pure and not field.pre_load and not field.post_load:
        load = lru_cache(maxsize=8192, typed=True)(load)
    return _Deferred(type(field).__name__, (), {"load": staticmethod(load), "load_anew": load_anew})
