"""Who may post callbacks: keys that can be rotated, and networks that cannot be spoofed into."""

from __future__ import annotations

import pytest
from aiohttp import encode_basic_auth
from http_wire import ask, request
from messages import OK, body, events, report

from receiver.app import FAST_PATH

TOML = """
[projects.keyed]
default = true
callback_keys = ["new-one-key", "the-old-one-until-friday", "münze-münze", "a&b=c d=e", "b/c+d/e=="]

[projects.fenced]
allowed_networks = ["203.0.113.0/24", "2001:db8::/32", "198.51.100.7"]

[projects.both]
callback_keys = ["key-of-both"]
allowed_networks = ["203.0.113.9"]

[projects.local]
allowed_networks = ["127.0.0.1", "::1"]
"""
TOPIC = "urn:smn:local:{}:sms_success"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Return the path of a configuration with keys and networks."""
    path = tmp_path_factory.mktemp("gated") / "receiver.toml"
    path.write_text(TOML, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def gated(serve_all, config):
    """Start a receiver behind a trusted proxy."""
    return serve_all(RECEIVER_CONFIG=config, RECEIVER_TRUSTED_PROXIES="127.0.0.0/8, ::1, 10.0.0.0/8")


async def post(port, path, **headers):
    """Post a good callback and return the status."""
    answer = await ask(port, request(body([report()]), path, **headers))
    if answer.status == 200:
        assert answer.json == OK
    else:
        assert answer.json["result"] == answer.status
    return answer.status


async def test_only_a_key_of_the_project_lets_a_callback_in(gated, redis):
    """The new key and the old one; spelled as URLs spell; and no part, case or neighbour of them."""
    good = [
        "new-one-key",
        "the-old-one-until-friday",
        "m%C3%BCnze-m%C3%BCnze",
        "a%26b%3Dc+d%3De",
        "a%26b%3Dc%20d%3De",
        "x&key=new-one-key",
    ]
    bad = [
        "",
        "new-one-ke",
        "new-one-key2",
        "NEW-ONE-KEY",
        "k",
        "new-one-key%00",
        "%FF",
        "m%FCnze-m%FCnze",
        "a&b=c d=e".replace(" ", "%20"),
    ]
    good += ["b/c+d/e==", "b%2Fc%2Bd%2Fe%3D%3D"]  # a plus as openssl writes it, and as URLs do
    bad += ["b/c%20d/e==", "b/c++d/e=="]
    clients = (f"203.0.113.{number}" for number in range(1, 255))  # too many wrong keys from one would be 429
    for path in ("/sms/callback", "/sms/callback/keyed", "/callbacks/tencent/keyed"):
        assert [await post(gated.port, f"{path}?key={key}") for key in good] == [200] * len(good)
        refused = [await post(gated.port, f"{path}?key={key}", X_Forwarded_For=next(clients)) for key in bad]
        assert refused == [401] * len(bad)
        assert await post(gated.port, path) == 401
        assert await post(gated.port, path + "?Key=new-one-key") == 401
    assert len(await events(redis, TOPIC.format("keyed"))) == 1


async def test_wrong_and_missing_keys_get_the_same_answer(gated):
    """Nothing tells how near a guess was, nor does the answer repeat it."""
    paths = ("/sms/callback", "/sms/callback?key=new-one-ke", "/sms/callback?key=x", "/sms/callback?other=new-one-key")
    answers = [await ask(gated.port, request(b"[]", path)) for path in paths]
    assert len({(answer.status, answer.body) for answer in answers}) == 1
    assert b"new-one-ke" not in answers[1].body


async def test_a_refused_callback_is_not_read_nor_stored(gated, redis):
    """And a url that was refused stays refused after one was let in."""
    assert await post(gated.port, "/sms/callback?key=new-one-key") == 200
    assert await post(gated.port, "/sms/callback?key=wrong") == 401
    assert len(await events(redis, TOPIC.format("keyed"))) == 1


async def test_only_allowed_networks_get_in(gated):
    """The nearest address that is no proxy of ours decides, whatever a sender writes before it."""
    expected = {
        "203.0.113.5": 200,
        "203.0.113.5, 10.1.2.3": 200,
        "6.6.6.6, 203.0.113.5": 200,
        "198.51.100.7": 200,
        "2001:db8::1": 200,
        "::ffff:203.0.113.5": 200,
        "203.0.114.5": 403,
        "198.51.100.8": 403,
        "203.0.113.5, 6.6.6.6": 403,
        "203.0.113.5, 6.6.6.6, 10.1.2.3": 403,
        "203.0.113.5, nonsense": 403,
        "203.0.113.5,": 403,
        "2001:db9::1": 403,
        "203.0.113.5:1234": 403,
        "10.1.2.3": 403,
        "": 403,
    }
    for _ in range(2):  # the long way, then the short one
        got = {given: await post(gated.port, "/sms/callback/fenced", X_Forwarded_For=given) for given in expected}
        assert got == expected


async def test_several_forwarded_headers_are_read_as_one(gated):
    """In their order: a sender's own comes first and counts for nothing."""
    data = request(body([report()]), "/sms/callback/fenced", X_Forwarded_For="203.0.113.5")
    spoofed = data.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n", 1)
    assert (await ask(gated.port, spoofed)).status == 403


async def test_key_and_network_are_both_asked(gated):
    """The right key from the wrong place does not get in, nor the other way round."""
    for _ in range(2):
        assert await post(gated.port, "/sms/callback/both?key=key-of-both", X_Forwarded_For="203.0.113.9") == 200
        assert await post(gated.port, "/sms/callback/both?key=key-of-both", X_Forwarded_For="203.0.113.8") == 403
        assert await post(gated.port, "/sms/callback/both?key=x", X_Forwarded_For="203.0.113.9") == 401


async def test_forwarded_addresses_of_strangers_are_not_believed(serve, config):
    """Without trusted proxies the peer's address decides."""
    process = serve(RECEIVER_CONFIG=config)
    for _ in range(2):
        assert await post(process.port, "/sms/callback/fenced", X_Forwarded_For="203.0.113.5") == 403
        assert await post(process.port, "/sms/callback/local", X_Forwarded_For="6.6.6.6") == 200


async def test_ipv6_peers_are_known(service):
    """On a socket of IPv6 the same rules hold."""
    client = await service(TOML, host="::1")
    answer = await client.post("/sms/callback/local", data=body([report()]))
    assert (answer.status, await answer.json()) == (200, OK)
    assert (await client.post("/sms/callback/fenced", data=b"[]")).status == 403


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_project_is_not_told_from_none_by_its_key(gated, method):
    """Errors of the path come before those of the key."""
    assert (await ask(gated.port, request(path="/sms/callback/nobody?key=x", method=method))).status in (404, 405)


async def test_the_key_may_come_in_a_header_and_opens_no_url(gated, redis):
    """Proxies log URLs. A URL that was let in for its header is not let in without it, nor with another key."""
    path, key = "/sms/callback/keyed", {"X_Callback_Key": "new-one-key"}
    for _ in range(3):  # through the router first, then past it
        assert await post(gated.port, path, **key) == 200
        assert await post(gated.port, path, X_Forwarded_For="203.0.113.77") == 401
        assert await post(gated.port, path, X_Callback_Key="new-one-ke", X_Forwarded_For="203.0.113.78") == 401
    assert await post(gated.port, path, X_Callback_Key="münze-münze") == 200
    assert await post(gated.port, f"{path}?key=of-yesterday", **key) == 200
    assert await post(gated.port, f"{path}?key=new-one-key", X_Callback_Key="of-yesterday") == 200
    assert (
        await post(gated.port, "/sms/callback/both", X_Callback_Key="key-of-both", X_Forwarded_For="203.0.113.8") == 403
    )
    assert len(await events(redis, TOPIC.format("keyed"))) == 1


async def test_a_url_takes_the_fast_path_once_a_signature_was_good(service):
    """Strangers would fill the cache with others. Each callback is verified all the same."""
    client = await service('[projects.signed.providers.infobip]\ncredentials = ["user:password"]\n')
    auth = client.app[FAST_PATH]._auth  # noqa: SLF001 what it knows shows in nothing but speed
    url = "/callbacks/infobip/signed"
    for number in range(3):
        assert (await client.post(f"{url}?x={number}", data=b'{"results":[]}')).status == 401
        assert auth.authenticated(f"{url}?x={number}") is None
    good = {"Authorization": encode_basic_auth("user", "password")}
    for _ in range(2):
        assert (await client.post(url, data=b'{"results":[]}', headers=good)).status == 200
        assert auth.authenticated(url) is not None
        assert (await client.post(url, data=b'{"results":[]}')).status == 401
    auth.reload()
    assert auth.authenticated(url) is None


async def test_urls_of_an_open_project_push_out_no_others(service):
    """Anybody may post to it, under any number of URLs."""
    client = await service('[projects.open]\n[projects.keyed]\ncallback_keys = ["a-key-of-the-project"]\n')
    auth = client.app[FAST_PATH]._auth  # noqa: SLF001 as above
    keyed = "/sms/callback/keyed?key=a-key-of-the-project"
    for url in (keyed, *(f"/sms/callback/open?x={number}" for number in range(300))):
        assert (await client.post(url, data=b"[]")).status == 200
    assert auth.authenticated(keyed) is not None
    assert auth.authenticated("/sms/callback/open?x=1") is not None
    assert auth.authenticated("/sms/callback/open?x=299") is None
