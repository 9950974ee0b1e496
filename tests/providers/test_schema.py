"""The fast decoder against marshmallow: it accepts a subset, with the same values.

Not the other way round: what marshmallow accepts, the struct may leave to it (unknown fields, choices that are not
plain texts). For schemas without such features the good values of ``ZOO`` show that the fast way is taken at all.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
from collections import UserString

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from marshmallow import (
    EXCLUDE,
    INCLUDE,
    RAISE,
    Schema,
    ValidationError,
    fields,
    post_load,
    pre_load,
    validate,
    validates,
    validates_schema,
)

from receiver.providers.schema import InexpressibleError, build, deserialize, struct_of
from receiver.providers.tencent import Reply, StatusReport

UNFIT = (msgspec.MsgspecError, ValueError, RecursionError)


def schema(unknown=RAISE, **declared):
    """Return a schema class with these fields."""
    named = Schema.from_dict(declared, name="Zoo")
    return type("Zoo", (named,), {"Meta": type("Meta", (), {"unknown": unknown})})


class Colour(enum.StrEnum):
    """Choices that are texts, but not only."""

    RED = "red"


class Prefixed(fields.String):
    """A field that uses the key under which it stands."""

    def _deserialize(self, value, attr, data, **kwargs):
        return f"{attr}={super()._deserialize(value, attr, data, **kwargs)}"


class Sum(fields.Integer):
    """A field that uses its sibling, if there is one."""

    def _deserialize(self, value, attr, data, **kwargs):
        return super()._deserialize(value, attr, data, **kwargs) + len((data or {}).get("a", ""))


class Broken(fields.String):
    """A field with a bug."""

    def _deserialize(self, value, attr, data, **kwargs):  # noqa: ARG002 marshmallow's
        raise KeyError(value)


INNER = schema(EXCLUDE, x=fields.Integer(required=True), y=fields.String(load_default="why"))
OUTER = schema(INCLUDE, x=fields.Nested(INNER, data_key="y"), z=fields.Nested(INNER, many=True, required=True))
#: Each with values of which one at least takes the fast way, unless that is what it is about.
ZOO = {
    "plain": schema(a=fields.String(), b=fields.String(required=True)),
    "length": schema(a=fields.String(validate=validate.Length(2, 4))),
    "length of exactly": schema(a=fields.String(validate=validate.Length(equal=3))),
    "two lengths": schema(a=fields.String(validate=[validate.Length(min=3), validate.Length(min=1, max=4)])),
    "length below nothing": schema(a=fields.String(validate=validate.Length(min=-1, max=3))),
    "regexp": schema(a=fields.String(validate=validate.Regexp(r"a|b\Z"))),
    "regexp to the end of a line": schema(a=fields.String(validate=validate.Regexp("a$"))),
    "regexp with flags": schema(a=fields.String(validate=validate.Regexp("a", re.IGNORECASE))),
    "regexp with flags inside": schema(a=fields.String(validate=validate.Regexp("(?i)a+"))),
    "two regexps": schema(a=fields.String(validate=[validate.Regexp("a"), validate.Regexp("ab")])),
    "regexp and length": schema(a=fields.String(validate=[validate.Regexp("[ab]+"), validate.Length(max=3)])),
    "one of": schema(a=fields.String(validate=validate.OneOf(["a", "abc"]))),
    "one of after length": schema(a=fields.String(validate=[validate.Length(3, 5), validate.OneOf(["a", "abc"])])),
    "length after one of": schema(a=fields.String(validate=[validate.OneOf(["a", "abc"]), validate.Length(3, 5)])),
    "one of twice": schema(a=fields.String(validate=[validate.OneOf(["a", "b"]), validate.OneOf(["b", "abc"])])),
    "one of nothing": schema(a=fields.String(validate=validate.OneOf([]))),
    "one of the parts of a text": schema(a=fields.String(validate=validate.OneOf("abc"))),
    "one of an enum": schema(a=fields.String(validate=validate.OneOf([Colour.RED, "a"]))),
    "none of": schema(a=fields.String(validate=validate.NoneOf(["a"]))),
    "callable validator": schema(a=fields.String(validate=lambda text: text == "a" or fail())),
    "defaults": schema(a=fields.String(load_default="d"), b=fields.Raw(load_default=list)),
    "mutable default": schema(a=fields.List(fields.Integer(), load_default=[1]), b=fields.Raw(load_default={"c": []})),
    "default of another type": schema(a=fields.String(load_default=5), b=fields.Integer(load_default="x")),
    "default null": schema(a=fields.String(load_default=None)),
    "default null where null is not allowed": schema(a=fields.String(load_default=None, allow_none=False)),
    "null allowed": schema(a=fields.String(allow_none=True), b=fields.Integer(allow_none=True, required=True)),
    "null with a default": schema(a=fields.Integer(allow_none=True, load_default=7)),
    "null before processing": schema(a=fields.String(allow_none=True, pre_load=lambda value: value or "none")),
    "processed after": schema(a=fields.String(post_load=str.upper)),
    "data_key": schema(a=fields.String(data_key="b"), b=fields.Integer(data_key="a")),
    "empty data_key": schema(EXCLUDE, a=fields.String(data_key="", required=True)),
    "attribute": schema(a=fields.String(attribute="b"), c=fields.Integer(attribute="a")),
    "attribute that is a keyword": schema(a=fields.String(attribute="class")),
    "exclude": schema(EXCLUDE, a=fields.String(required=True)),
    "include": schema(INCLUDE, a=fields.String(required=True)),
    "load only": schema(a=fields.String(load_only=True), b=fields.String(dump_only=True)),
    "dump only, excluded": schema(EXCLUDE, a=fields.String(), b=fields.Integer(dump_only=True)),
    "integer": schema(a=fields.Integer()),
    "strict integer": schema(a=fields.Integer(strict=True)),
    "integer in a range": schema(a=fields.Integer(validate=validate.Range(1, 5, min_inclusive=False))),
    "float": schema(a=fields.Float()),
    "float or nan": schema(a=fields.Float(allow_nan=True)),
    "decimal": schema(a=fields.Decimal(places=2)),
    "boolean": schema(a=fields.Boolean()),
    "moment": schema(a=fields.DateTime()),
    "moment in seconds": schema(a=fields.DateTime(format="timestamp"), b=fields.DateTime(format="timestamp_ms")),
    "date in a range": schema(a=fields.Date(validate=validate.Range(dt.date(2020, 1, 1)))),
    "date with a validator of its own": schema(a=fields.Date(validate=lambda day: day.day == 1 or fail())),
    "duration": schema(a=fields.TimeDelta(), b=fields.Time()),
    "enum": schema(a=fields.Enum(Colour), b=fields.Enum(Colour, by_value=True)),
    "uuid": schema(a=fields.UUID(), b=fields.IP()),
    "nested": schema(a=fields.Nested(INNER), b=fields.List(fields.Nested(INNER))),
    "nested, unknown by field": schema(a=fields.Nested(INNER, unknown=RAISE), b=fields.Nested(INNER, unknown=INCLUDE)),
    "nested, many": schema(a=fields.Nested(INNER, many=True, validate=validate.Length(1, 2)), b=fields.Nested(INNER)),
    "nested, many of many": schema(a=fields.Nested(OUTER, many=True, allow_none=True)),
    "nested, some fields": schema(a=fields.Nested(INNER, only=["x"]), b=fields.Nested(INNER, exclude=["x"])),
    "nested, with a validator": schema(a=fields.Nested(INNER, validate=lambda inner: inner["x"] == 1 or fail())),
    "nested, by a function": schema(a=fields.Nested(lambda: INNER())),  # noqa: PLW0108 a class would be another case
    "anything": schema(a=fields.Raw(allow_none=True), b=fields.Raw(), c=fields.Raw(allow_none=True, required=True)),
    "anything, processed": schema(a=fields.Raw(allow_none=True, post_load=lambda value: [value])),
    "anything but nothing": schema(a=fields.Raw(allow_none=True, validate=lambda value: value or fail())),
    "containers": schema(a=fields.Dict(fields.String(), fields.Integer()), b=fields.Tuple((fields.String(),))),
    "constant": schema(a=fields.Constant(5), b=fields.Function(deserialize=lambda value: [value])),
    "key known to the field": schema(a=Prefixed(data_key="b")),
    "sibling": schema(a=fields.String(), b=Sum()),
    "field with a bug": schema(a=Broken(), b=fields.Integer()),
    "status report": StatusReport,
    "reply": Reply,
}
GOOD = {
    "plain": {"b": "é\u0000😀"},
    "length": {"a": "😀😀"},
    "regexp": {"a": "ax"},
    "regexp and length": {"a": "ab"},
    "one of": {"a": "abc"},
    "defaults": {},
    "mutable default": {},
    "default null": {"a": None},
    "null allowed": {"a": None, "b": None},
    "null before processing": {"a": None},
    "data_key": {"a": 5, "b": "five"},
    "empty data_key": {"": "x"},
    "attribute": {"a": "x", "c": 5},
    "exclude": {"a": "x", "b": [5]},
    "include": {"a": "x"},
    "strict integer": {"a": -5},
    "moment": {"a": "2020-01-01T00:00:00Z"},
    "nested": {"a": {"x": "1"}, "b": [{"x": 1, "z": 0}]},
    "anything": {"a": {"x": [None, 1.5]}, "c": None},
    "nested, many": {"a": [{"x": 1}, {"x": "2", "y": "z"}], "b": {"x": 0}},
    "nested, many of many": {"a": [{"z": [], "y": {"x": 5}}, {"z": [{"x": 1}]}]},
    "nested, some fields": {"a": {"x": 5}},
    "nested, by a function": {"a": {"x": 5}},
    "key known to the field": {"b": "x"},
}


def fail():
    """Fail as a validator does."""
    raise ValidationError("no")


def the_same(value, other):
    """Compare values and their types: 5, 5.0 and True are three things."""
    return repr(value) == repr(other)


def check(kind, body):
    """Decode a text both ways. Return whether the fast way accepted it."""
    struct = struct_of(kind)
    try:
        fast = msgspec.json.decode(body, type=struct, dec_hook=deserialize)
    except UNFIT:
        return False
    loaded = kind().load(msgspec.json.decode(body))
    assert the_same((fast, {}), build(kind(), loaded))
    assert the_same(kind().load(json.loads(body)), loaded)
    return True


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5)
    | st.sampled_from(["a", "ab", "abc", "abcd", "b", "red", "RED", "5", "-0", "1e5", "nan", "on", "2020-01-01", ""])
    | st.sampled_from(["2020-01-01T00:00:00", "2020-01-01T00:00:00Z", "00:00:00", "1.1.1.1", "a\n", "1_0", "٣", " 5"])
    | st.sampled_from([0, 1, 1.0, 5.0, -0.0, 1e300, 2**53 + 1, 86400000])
)
keys = st.sampled_from(["a", "b", "c", "", "class", "x", "z"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
objects = st.dictionaries(keys, values, max_size=4)


@pytest.mark.parametrize("name", ZOO)
@settings(max_examples=settings().max_examples // 4)  # there are many schemas
@given(objects | values)
def test_what_the_struct_accepts_the_schema_loads_with_the_same_values(name, value):
    """For any JSON and every feature of marshmallow that schemas may use."""
    check(ZOO[name], json.dumps(value).encode())


@pytest.mark.parametrize("name", GOOD)
def test_the_fast_way_is_taken_for_what_is_usual(name):
    """A subset, but not the empty one."""
    assert check(ZOO[name], json.dumps(GOOD[name]).encode())


status_report = st.fixed_dictionaries(
    {
        "user_receive_time": st.sampled_from(["2015-10-17 08:03:04", "2015-10-17 8:3:4", "1969-01-01 00:00:00", "x"])
        | values,
        "nationcode": st.from_regex(r"[0-9]{1,5}\n?", fullmatch=True) | values,
        "mobile": st.text(st.characters(codec="utf-8"), max_size=34) | values,
        "report_status": st.sampled_from(["SUCCESS", "FAIL", "success", ""]) | values,
        "errmsg": st.text(st.characters(codec="utf-8")) | values,
        "description": st.just("用户短信送达成功") | values,
        "sid": st.sampled_from(["5000:1045710669157053657849499619", "x" * 128, "x" * 129]) | values,
    },
    optional={"ext": values, "new": values},
)
reply = st.fixed_dictionaries(
    {
        "mobile": st.just("13800138000") | values,
        "nationcode": st.just("86") | values,
        "sign": st.just("签名") | values,
        "text": st.text(st.characters(codec="utf-8")) | values,
        "time": st.integers(-1, 253402300800) | st.sampled_from([0, 253402300799, 1e9, -0.0, True, "5"]) | values,
    },
    optional={"extend": st.none() | st.just("01") | values, "new": values},
)


@given(status_report)
def test_near_misses_of_status_reports_are_judged_alike(value):
    """The same for what looks like a status report."""
    check(StatusReport, json.dumps(value).encode())


@given(reply)
@example({"mobile": "1", "nationcode": "86", "sign": "", "text": "", "time": 253402300799})
@example({"mobile": "1", "nationcode": "86", "sign": "", "text": "", "time": 2**63})
def test_near_misses_of_replies_are_judged_alike(value):
    """The same for what looks like a reply."""
    check(Reply, json.dumps(value).encode())


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (b'{"a":"x","a":"y"}', True),
        (b'{"\\u0061":"\\u0078"}', True),
        (b'{"a":"x","\\u0061":5}', False),
        (b'{"a":"\\ud800"}', False),
        (b'{"a":"\xff"}', False),
        (b'{"a":NaN}', False),
        (b' {"a" : "x"} \r\n', True),
    ],
)
def test_texts_of_json_that_parsers_treat_differently(body, taken):
    """Keys given twice or escaped, and bytes that are no JSON."""
    assert check(schema(a=fields.String()), body) is taken


def test_a_value_is_not_remembered_for_another_of_another_type():
    """True and 1 are equal to a cache and not to a field of seconds."""
    kind = schema(a=fields.DateTime(format="timestamp"))
    decoder = msgspec.json.Decoder(struct_of(kind), dec_hook=deserialize)
    decoder.decode(b'{"a":1}')
    for body in (b'{"a":true}', b'{"a":[]}'):
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(body)


def test_the_verdict_of_a_validator_of_ones_own_is_asked_each_time():
    """It may depend on more than the value: the time of day, for example."""
    verdicts = iter([True, False])
    kind = schema(a=fields.Date(validate=lambda _: next(verdicts) or fail()))
    decoder = msgspec.json.Decoder(struct_of(kind), dec_hook=deserialize)
    decoder.decode(b'{"a":"2020-01-01"}')
    with pytest.raises(msgspec.ValidationError):
        decoder.decode(b'{"a":"2020-01-01"}')


def test_a_mutable_default_is_equal_each_time():
    """As with marshmallow, which hands out the same object."""
    kind = ZOO["mutable default"]
    assert check(kind, b"{}")
    assert check(kind, b"{}")


class _Hooked(Schema):
    a = fields.String()


class _PreLoad(_Hooked):
    @pre_load
    def change(self, data, **_):
        return data


class _PostLoad(_Hooked):
    @post_load
    def change(self, data, **_):
        return UserString(data["a"])


class _Validates(_Hooked):
    @validates("a")
    def refuse(self, _value, **_):
        fail()


class _ValidatesSchema(_Hooked):
    @validates_schema
    def refuse(self, _data, **_):
        fail()


class _Inherits(_ValidatesSchema):
    b = fields.String()


class _LoadsItself(_Hooked):
    def load(self, *args, **kwargs):
        return {**super().load(*args, **kwargs), "a": "changed"}


INEXPRESSIBLE = {
    "pre_load": _PreLoad,
    "post_load": _PostLoad,
    "validates": _Validates,
    "validates_schema": _ValidatesSchema,
    "inherited hook": _Inherits,
    "load of its own": _LoadsItself,
    "attribute with a dot": schema(a=fields.String(attribute="b.c")),
    "name that is no name": Schema.from_dict({"a-b": fields.String()}),
    "name of a method of all objects": Schema.from_dict({"__init__": fields.String()}),
    "two fields of one key": schema(
        a=fields.String(data_key="x", load_only=True), b=fields.Integer(data_key="x", load_only=True)
    ),
}


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_a_schema_that_cannot_be_carried_over_says_so(name):
    """Then the schema alone is used; nothing is guessed."""
    with pytest.raises(InexpressibleError):
        struct_of(INEXPRESSIBLE[name])


def test_unknown_fields_of_nested_objects_are_told_apart():
    """They are in objects of their own, under the names of the JSON; an object without any is not there."""
    kind = schema(INCLUDE, a=fields.Nested(OUTER), b=fields.Nested(OUTER, many=True), c=fields.Nested(OUTER))
    item = {"y": {"x": 1}, "z": [{"x": 1}, {"x": 2}], "new": [1]}
    known = {"z": []}
    struct, unknown = build(kind(), kind().load({"a": item, "b": [known, item], "c": known, "new": 2}))
    assert unknown == {"a": {"new": [1]}, "b": [{}, {"new": [1]}], "new": 2}
    assert (struct.a.x.x, struct.b[1].z[1].x, struct.c.z) == (1, 2, [])
