"""A schema that has no struct is read by marshmallow alone, with the same outcome."""

from __future__ import annotations

import json

from marshmallow import Schema, fields, post_load

from receiver.events import Event, EventType
from receiver.providers.base import Kind, SchemaReader


class Hooked(Schema):
    """A schema whose hook no struct can know."""

    sid = fields.String(required=True)
    note = fields.String()

    @post_load
    def shout(self, data, **_kwargs):
        """Change what was loaded."""
        return {**data, "sid": data["sid"].upper()}


def test_a_schema_with_hooks_is_read_slowly_and_its_hooks_are_obeyed():
    kind = Kind(Hooked, ("sid",), lambda item, _extra, _sign: Event(EventType.SUCCESS, None, item.sid.encode()))
    reading = SchemaReader((kind,), "unlike").read(json.dumps([{"sid": "a"}, {"sid": 5}]).encode(), None, 10)
    assert reading.way == "slow"
    assert [event.data for event in reading.events] == [b"A"]
    assert reading.rejections[0].problems == ["[1].sid: Not a valid string."]
