"""A provider that signs some of its callbacks: the key in the URL is for all of them, the signature for those."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from http_wire import ask, request
from messages import events

PAYLOADS = Path(__file__).parents[1] / "payloads" / "yunpian" / "samples.json"
SAMPLES = {sample["name"]: sample["body"].encode() for sample in json.loads(PAYLOADS.read_text(encoding="utf-8"))}
TOML = """
[projects.shop]
callback_keys = ["k1-of-shop"]

[projects.shop.providers.yunpian]
api_keys = ["0000"]
"""


@pytest.fixture(scope="module")
def partly_signed(serve_all, tmp_path_factory):
    """Start a receiver with a project whose replies are signed."""
    path = tmp_path_factory.mktemp("partly_signed") / "receiver.toml"
    path.write_text(TOML, encoding="utf-8")
    return serve_all(RECEIVER_CONFIG=str(path))


@pytest.mark.parametrize(
    ("name", "query", "stored"),
    [
        ("two reports, as documented", "?key=k1-of-shop", [1, 1, 0]),
        ("two reports, as documented", "", [0, 0, 0]),
        ("a reply with the documented signature", "?key=k1-of-shop", [0, 0, 1]),
        ("a reply with the documented signature", "", [0, 0, 0]),
        ("a reply with a wrong signature", "?key=k1-of-shop", [0, 0, 0]),
        ("a forged reply among reports", "?key=k1-of-shop", [0, 0, 0]),
    ],
)
async def test_key_and_signature_are_asked_for(partly_signed, redis, name, query, stored):
    answer = await ask(partly_signed.port, request(SAMPLES[name], f"/callbacks/yunpian/shop{query}"))
    assert answer.status == (200 if any(stored) else 401)
    assert (answer.body == b"SUCCESS") == any(stored)
    topics = [f"urn:smn:local:shop:sms_{kind}" for kind in ("success", "fail", "reply")]
    assert [len(await events(redis, topic)) for topic in topics] == stored
