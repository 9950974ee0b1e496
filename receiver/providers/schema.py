"""Derives fast JSON decoders (msgspec structs) from marshmallow schemas.

The schema stays the only source of truth. The struct accepts a subset of the schema's input, with the same values. The
schema may still accept input that the struct rejects, and only the schema produces error messages. A schema with a
feature that a struct cannot express (hooks, for example) has no struct.

This module is independent of the content of the schemas.

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
``unknown``: EXCLUDE                   unknown fields are skipped, without a check of their UTF-8
=====================================  ============================================================

A struct has nested structs where the schema loads dicts. ``build`` converts a loaded dict to a struct.
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

#: Fields whose value depends only on the input, so that it can be cached; and such validators.
_PURE: Final = (fields.DateTime, fields.NaiveDateTime, fields.AwareDateTime, fields.Date, fields.Time)
_PURE_VALIDATORS: Final = (validate.Range, validate.OneOf, validate.NoneOf, validate.Equal)
#: Characters of a text whose value is cached. Longer ones would let callers fill the memory.
_MAX_CACHED_TEXT: Final = 64
#: Members of ``Schema`` that decide how fields are loaded. A schema that overrides one has no struct.
_LOADING: Final = ("load", "_do_load", "_deserialize", "_call_and_store", "dict_class")


class InexpressibleError(TypeError):
    """The schema has a feature that a struct cannot express. Use the schema alone."""


@cache
def struct_of(schema: type[Schema]) -> type[msgspec.Struct]:
    """Return a struct type that accepts a subset of the schema's input, with the same values.

    Decode with ``dec_hook=deserialize``. Raises InexpressibleError for schemas with hooks, their own loading, or names
    that a struct cannot have.
    """
    instance = schema()
    if any(instance._hooks.values()):  # noqa: SLF001 marshmallow has no public way to ask
        raise InexpressibleError(f"{schema.__name__} has hooks, whose effect is unknown")
    own = [name for name in _LOADING if getattr(schema, name) is not getattr(Schema, name)]
    if own:
        raise InexpressibleError(f"{schema.__name__} overrides how fields are loaded: {', '.join(own)}")
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
        msgspec.json.Decoder(struct)  # raises for types that cannot be distinguished or checked
    except (TypeError, ValueError) as error:  # two fields that read the same key, for example
        raise InexpressibleError(f"{schema.__name__}: {error}") from None
    return struct


def build(schema: Schema, loaded: Mapping[str, Any]) -> tuple[msgspec.Struct, dict[str, Any]]:
    """Return the struct of a loaded dict, and its unknown fields.

    Unknown fields of nested objects are nested as well: ``{"price": {"vat": 1}}``.
    """
    declared = {field.attribute or name: field for name, field in schema.load_fields.items()}
    values: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in loaded.items():
        field = declared.get(name)
        if field is None:
            unknown[name] = value
        elif value is None or type(field) is not fields.Nested or _native(field) is None:
            values[name] = value
        else:
            values[name], rest = _build_nested(field, value)
            if rest:
                unknown[str(field.name if field.data_key is None else field.data_key)] = rest
    return struct_of(type(schema))(**values), unknown


def _build_nested(field: fields.Nested, value: Any) -> tuple[Any, Any]:  # noqa: ANN401 an object, or a list of them
    if not field.many:
        return build(field.schema, value)
    pairs = [build(field.schema, one) for one in value]
    unknown = [rest for _, rest in pairs]
    return [struct for struct, _ in pairs], unknown if any(unknown) else None


def deserialize(field_type: type[Any], value: Any) -> Any:  # noqa: ANN401 any JSON in, the field's type out
    """Load a value with the field that ``field_type`` represents: msgspec's ``dec_hook``."""
    load: Callable[[Any], Any] = field_type.load
    if type(value) is str and len(value) > _MAX_CACHED_TEXT:
        load = field_type.load_uncached
    try:
        return load(value)
    except Exception as error:  # noqa: BLE001 a custom field may raise anything; the schema reports the error
        raise ValueError(str(error)) from None


def _member(name: str, field: fields.Field[Any]) -> tuple[str, Any, Any, str]:
    attribute = field.attribute or name
    if not attribute.isidentifier():
        raise InexpressibleError(f"{attribute!r} cannot be the name of an attribute")
    key = name if field.data_key is None else field.data_key
    member_type: Any = _native(field) or _deferred(field, key)
    if field.allow_none and not field.pre_load:  # a hook may change null
        member_type |= None
    if field.required:
        return attribute, member_type, msgspec.NODEFAULT, key
    if field.load_default is missing:
        return attribute, member_type | msgspec.UnsetType, msgspec.UNSET, key
    default = field.load_default
    factory = default if callable(default) else lambda: default
    return attribute, member_type, msgspec.field(default_factory=factory), key


def _native(field: fields.Field[Any]) -> Any:  # noqa: ANN401 a type expression
    """Return the type for a field whose validators all have a counterpart in msgspec, else None."""
    validator_types = {type(validator) for validator in field.validators}
    if field.pre_load or field.post_load or len(validator_types) < len(field.validators):
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
    text_type: Any = str
    for meta in metas:
        text_type = Annotated[text_type, meta]
    return text_type


def _native_any(field: Any) -> Any:  # noqa: ANN401 a Raw; a type expression
    return Any if field.allow_none and not field.validators else None


def _native_object(field: Any) -> Any:  # noqa: ANN401 a Nested; a type expression
    """Return the struct of a nested schema, or a list of it; None if the field changes how the schema loads."""
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
    nested_type: Any = GenericAlias(list, struct) if field.many else struct
    return Annotated[nested_type, metas[0]] if metas else nested_type


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
        # msgspec searches; marshmallow matches from the start.
        return msgspec.Meta(pattern=rf"\A(?:{validator.regex.pattern!s})")
    return None


class _Deferred(type):
    """The metaclass of types that represent a field.

    msgspec checks the type of ``dec_hook``'s result. The field has validated it, so the check always succeeds.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class _Unseen:
    """Replaces the enclosing dict, which does not exist yet. A field that reads it must be loaded by the schema."""

    def _refuse(self, *_: object) -> NoReturn:
        raise InexpressibleError("a field that reads its siblings")

    __getattr__ = __getitem__ = __contains__ = __iter__ = __len__ = __bool__ = _refuse


_UNSEEN: Final[Any] = _Unseen()


def _deferred(field: fields.Field[Any], key: str) -> type[Any]:
    """Return a type unknown to msgspec, which makes it pass the decoded value to ``deserialize``."""
    load: Callable[[Any], Any] = partial(field.deserialize, attr=key, data=_UNSEEN)
    load_uncached = staticmethod(load)
    pure = type(field) in _PURE or getattr(field, "pure", False)
    pure = pure and all(type(validator) in _PURE_VALIDATORS for validator in field.validators)
    if pure and not field.pre_load and not field.post_load:
        load = lru_cache(maxsize=8192, typed=True)(load)
    return _Deferred(type(field).__name__, (), {"load": staticmethod(load), "load_uncached": load_uncached})
