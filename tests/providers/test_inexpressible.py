"""A schema that has no struct is read by marshmallow alone, with the same outcome."""

from __future__ import annotations

import json

from marshmallow import Schema, fields, post_load

from receiver.events import Event, EventType
from receiver.providers.base import request_of
from receiver.providers.item_types import ItemProvider, ItemType


class Hooked(Schema):
    """A schema whose hook no struct can know."""

    sid = fields.String(required=True)
    note = fields.String()

    @post_load
    def shout(self, data, **_kwargs):
        """Change what was loaded."""
        return {**data, "sid": data["sid"].upper()}


class HookedProvider(ItemProvider):
    """A provider whose only type of item has a hook."""

    item_types = (
        ItemType(Hooked, ("sid",), lambda _p, item, _extra: Event(EventType.SUCCESS, None, item.sid.encode())),
    )
    unlike = "unlike"


def test_a_schema_with_hooks_is_read_slowly_and_its_hooks_are_obeyed():
    parsed = HookedProvider().parse(request_of(json.dumps([{"sid": "a"}, {"sid": 5}]).encode()))
    assert parsed.path == "slow"
    assert [event.data for event in parsed.events] == [b"A"]
    assert parsed.rejections[0].problems == ["[1].sid: Not a valid string."]
