"""Who may use the lookups, and who may not: tokens and signatures against the application."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from signers import derived, plain, stamp
from smn import OTHER, PROJECT, SMS, TOML
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from conftest import Client, Service

    Signer = Callable[..., dict[str, str]]

PATH = f"{SMS}/callback"
QUERY = [("event_type", "sms_fail_event")]
both_forms = pytest.mark.parametrize("sign", [plain, derived])


@pytest.fixture
async def client(service: Service) -> Client:
    """Return a client for a service with two projects."""
    return await service(TOML)


async def get(client: Client, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """GET a path exactly as it is written."""
    response = await client.get(URL(path, encoded=True), headers=headers)
    body = await response.json()
    assert response.headers["X-Request-Id"] == body["request_id"]
    assert len(body["request_id"]) == 32
    return response.status, body


def gateway(reason: str) -> dict[str, str]:
    """Return what the gateway says, without the request's id."""
    return {"error_msg": f"Incorrect IAM authentication information: {reason}", "error_code": "APIG.0301"}


async def refused(client: Client, path: str, headers: dict[str, str], reason: str) -> None:
    """Check that the answer is the gateway's."""
    status, body = await get(client, path, headers)
    del body["request_id"]
    assert (status, body) == (401, gateway(reason))


def signed(sign: Signer, **headers: str) -> dict[str, str]:
    """Return the headers of a signed GET of the routes of failures."""
    return sign("GET", PATH, QUERY, {"X-Sdk-Date": stamp(), "Host": "receiver.example", **headers})


async def test_no_or_other_credentials_are_401(client: Client) -> None:
    """Without credentials, or with those of another scheme, the answer is 401 in the gateway's words."""
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"X-Auth-Token": ""}):
        await refused(client, PATH, headers, "x-auth-token not found")


async def test_a_static_token_opens_its_project(client: Client) -> None:
    """A project's token opens it; a wrong one opens nothing, whatever it is made of."""
    assert (await get(client, PATH, {"X-Auth-Token": "static-token"}))[0] == 200
    for token in ("static-toke", "static-token2", "é", "a" * 4000, "00.00", "5b5d."):
        await refused(client, PATH, {"X-Auth-Token": token}, "decrypt token fail")


async def test_a_token_of_another_project_opens_nothing(client: Client) -> None:
    """Good credentials of one project do not open another, and do not tell which others there are."""
    for project in (OTHER, "no-such-project"):
        status, body = await get(client, PATH.replace(PROJECT, project), {"X-Auth-Token": "static-token"})
        assert (status, body["code"]) == (403, "SMN.0001")
        assert body["message"] == "No permission to request resources."


@both_forms
async def test_a_good_signature_opens_the_project(client: Client, sign: Signer) -> None:
    """A good signature opens the project, in both forms."""
    status, body = await get(client, f"{PATH}?event_type=sms_fail_event", signed(sign))
    assert status == 200
    assert [item["event_type"] for item in body["callback"]] == ["sms_fail_event"]


@both_forms
async def test_a_signature_of_another_project_is_403(client: Client, sign: Signer) -> None:
    """A good signature with the key of another project is 403."""
    headers = sign("GET", PATH, [], {"X-Sdk-Date": stamp()}, keys=("AKOTHER", "the-secret-of-AKOTHER"))
    status, body = await get(client, PATH, headers)
    assert (status, body["code"]) == (403, "SMN.0001")


@both_forms
@pytest.mark.parametrize(
    "path",
    [
        f"{PATH}?event_type=sms_success_event",  # another value
        PATH,  # left out
        f"{PATH}?event_type=sms_fail_event&limit=1",  # added
        f"{SMS}/report?event_type=sms_fail_event",  # another path
        f"{PATH}?event_type=sms_fail_event&event_type=sms_fail_event",  # twice
    ],
)
async def test_a_changed_url_breaks_the_signature(client: Client, sign: Signer, path: str) -> None:
    """A signature covers path and query."""
    await refused(client, path, signed(sign), "verify aksk signature fail")


@both_forms
async def test_changed_headers_break_the_signature(client: Client, sign: Signer) -> None:
    """A signature covers the headers that it names: none may be changed, left out or come twice."""
    good = signed(sign, **{"X-Project-Id": PROJECT})
    url = f"{PATH}?event_type=sms_fail_event"
    assert (await get(client, url, good))[0] == 200
    for change in ({"X-Project-Id": OTHER}, {"X-Sdk-Date": stamp(time.time() - 60)}, {"Host": "evil.example"}):
        await refused(client, url, {**good, **change}, "verify aksk signature fail")
    missing = {name: value for name, value in good.items() if name != "X-Project-Id"}
    await refused(client, url, missing, "verify aksk signature fail")
    response = await client.get(url, headers=[*good.items(), ("X-Project-Id", PROJECT)])
    assert response.status == 401


@both_forms
async def test_a_changed_body_or_method_breaks_the_signature(client: Client, sign: Signer) -> None:
    """A signature covers the bytes of the body and the method."""
    body = json.dumps({"callback": [{"event_type": "sms_fail_event", "topic_urn": f"urn:smn:x:{PROJECT}:t"}]}).encode()
    headers = sign("PUT", PATH, [], {"X-Sdk-Date": stamp()}, body)
    for method, sent in (("PUT", body + b" "), ("PUT", b""), ("PUT", body.replace(b":t", b":u")), ("GET", body)):
        response = await client.request(method, PATH, data=sent, headers=headers)
        assert response.status == 401
    claimed = {**headers, "X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"}
    assert (await client.put(PATH, data=b"{}", headers=claimed)).status == 401
    assert (await client.put(PATH, data=body, headers=headers)).status == 200


@both_forms
@pytest.mark.parametrize("age", [16 * 60, -16 * 60, 86400, 3 * 365 * 86400])
async def test_an_old_signature_opens_nothing(client: Client, sign: Signer, age: float) -> None:
    """A signature is good for 15 minutes: replayed later it opens nothing; nor does one from the future."""
    headers = sign("GET", PATH, [], {"X-Sdk-Date": stamp(time.time() - age)})
    await refused(client, PATH, headers, "verify aksk signature fail")


@both_forms
async def test_clocks_may_differ_a_little(client: Client, sign: Signer) -> None:
    """Clocks may differ by up to 15 minutes."""
    for age in (-14 * 60, 14 * 60):
        assert (await get(client, PATH, sign("GET", PATH, [], {"X-Sdk-Date": stamp(time.time() - age)})))[0] == 200


@both_forms
async def test_wrong_keys_look_the_same(client: Client, sign: Signer) -> None:
    """A wrong secret key and an unknown access key look the same."""
    for keys in (("AKEXAMPLE", "wrong"), ("AKUNKNOWN", "the-secret-of-AKEXAMPLE"), ("AKEXAMPLE", "")):
        headers = sign("GET", PATH, [], {"X-Sdk-Date": stamp()}, keys=keys)
        await refused(client, PATH, headers, "verify aksk signature fail")


async def test_a_stranger_cannot_make_us_read(client: Client) -> None:
    """A body is read only for a known access key; a request for a token may have 64 KiB."""
    headers = plain("PUT", PATH, [], {"X-Sdk-Date": stamp()}, keys=("AKUNKNOWN", "x"))
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 1024
            await asyncio.sleep(0.05)

    response = await client.put(PATH, data=endless(), headers={**headers, "Connection": "close"})
    assert response.status == 401
    assert len(sent) < 20
    response = await client.post("/v3/auth/tokens", data=b" " * (65 << 10))
    assert (response.status, (await response.json())["code"]) == (413, "SMN.0013")


async def test_a_derived_key_is_good_for_its_day(client: Client) -> None:
    """A derived key is good for the day of the date that was signed."""
    headers = derived("GET", PATH, [], {"X-Sdk-Date": stamp()})
    day = stamp()[:8]
    other = {**headers, "Authorization": headers["Authorization"].replace(f"/{day}/", "/20200101/")}
    await refused(client, PATH, other, "verify aksk signature fail")


@pytest.mark.parametrize(
    "value",
    [
        "SDK-HMAC-SHA256",
        "SDK-HMAC-SHA256 Access=AKEXAMPLE",
        "SDK-HMAC-SHA256 Access=AKEXAMPLE, SignedHeaders=, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=AKEXAMPLE, SignedHeaders=host, Signature=zz",
        "SDK-HMAC-SHA256 Credential=AKEXAMPLE/x, SignedHeaders=host, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=é, SignedHeaders=host, Signature=" + "0" * 64,
    ],
)
async def test_a_malformed_authorization_is_refused(client: Client, value: str) -> None:
    """What is no signature is refused as a wrong one."""
    await refused(client, PATH, {"Authorization": value, "X-Sdk-Date": stamp()}, "verify aksk signature fail")
    for date in ("yesterday", "20261399T000000Z", "\uff12\uff10260101T000000Z", ""):
        headers = {**signed(plain), "X-Sdk-Date": date}
        await refused(client, PATH, headers, "verify aksk signature fail")


@both_forms
async def test_unusual_characters_are_signed_as_they_are_meant(client: Client, sign: Signer) -> None:
    """What has to be encoded in a query is signed as it is meant, not as it is spelled."""
    query = [("sign_id", "签名 +%/~*"), ("start_time", "0"), ("end_time", "1"), ("event_type", "")]
    headers = sign("GET", f"{SMS}/report", query, {"X-Sdk-Date": stamp()})
    for spelled in ("%E7%AD%BE%E5%90%8D%20%2B%25%2F~*", "%e7%ad%be%e5%90%8d+%2b%25/%7E%2A"):
        status, body = await get(client, f"{SMS}/report?start_time=0&end_time=1&sign_id={spelled}&event_type", headers)
        assert (status, body["code"]) == (400, "SMN.0113")


@pytest.mark.parametrize(
    ("raw", "other"), [("5000%3A1045", "5000%3A1046"), ("sig+default", "sig+other"), ("a+%2B", "a++")]
)
async def test_the_java_sdk_encodes_twice(client: Client, raw: str, other: str) -> None:
    """SMN's Java SDK signs the query as it stands in the URL, encoded once more; a space stands there as a plus."""
    query = [("sign_id", raw), ("start_time", "0"), ("end_time", "1")]
    headers = derived("GET", f"{SMS}/report", query, {"X-Sdk-Date": stamp(), "Host": "receiver.example"})
    url = f"{SMS}/report?start_time=0&end_time=1&sign_id="
    assert (await get(client, url + raw, headers))[1]["code"] == "SMN.0113"
    await refused(client, url + other, headers, "verify aksk signature fail")


@pytest.mark.parametrize("headers", [{}, {"Host": "receiver.example", "X-Project-Id": PROJECT}])
async def test_nobody_else_encodes_twice(client: Client, headers: dict[str, str]) -> None:
    """Who signs other headers than the Java SDK means what was signed: "a%3Ab", not "a:b"."""
    query = [("sign_id", "a%3Ab"), ("start_time", "0"), ("end_time", "1")]
    for sign in (plain, derived):
        signed_headers = sign("GET", f"{SMS}/report", query, {"X-Sdk-Date": stamp(), **headers})
        url = f"{SMS}/report?start_time=0&end_time=1&sign_id="
        assert (await get(client, f"{url}a%253Ab", signed_headers))[1]["code"] == "SMN.0113"
        await refused(client, f"{url}a%3Ab", signed_headers, "verify aksk signature fail")


ENCODED = [
    ("5000%3A1045", "5000%3A1046"),
    ("5000%3a1045", "5000%3A1045"),  # signed as spelled
    ("a%20b~%C3%A9", "a%20b~%C3%A8"),
]


@pytest.mark.parametrize(("encoded", "other"), ENCODED)
async def test_the_node_sdk_encodes_the_path_twice(client: Client, encoded: str, other: str) -> None:
    """Huawei's SDK core for Node signs the path as it stands in the URL, encoded once more: %3A as %253A."""
    path = f"{SMS}/message/"
    headers = {"X-Sdk-Date": stamp(), "Host": "receiver.example", "X-Project-Id": PROJECT}
    signed_headers = plain("GET", path + encoded, [], {**headers, "Content-Type": "application/json"})
    assert (await get(client, path + encoded, signed_headers))[0] == 404  # admitted; no such message
    await refused(client, path + other, signed_headers, "verify aksk signature fail")
    await refused(client, path + encoded, derived("GET", path + encoded, [], headers), "verify aksk signature fail")


async def test_an_encoded_path_signed_as_it_is_meant(client: Client) -> None:
    """As the document and all other SDKs do it."""
    for sign in (plain, derived):
        headers = sign("GET", f"{SMS}/message/5000:1045", [], {"X-Sdk-Date": stamp(), "Host": "receiver.example"})
        for spelled in ("5000:1045", "5000%3A1045", "5000%3a1045"):
            assert (await get(client, f"{SMS}/message/{spelled}", headers))[0] == 404


async def test_an_open_project_asks_for_nothing(service: Service) -> None:
    """A project without any secret asks for nothing."""
    client = await service()
    for headers in ({}, {"X-Auth-Token": "whatever"}, {"Authorization": "SDK-HMAC-SHA256 whatever"}):
        assert (await get(client, "/v2/default/notifications/sms/callback", headers))[0] == 200


async def test_a_project_that_only_has_callback_keys(service: Service) -> None:
    """A project that protects its callbacks is not open to lookups."""
    client = await service('[projects.p]\ncallback_keys = ["key-of-p"]\n')
    await refused(client, "/v2/p/notifications/sms/callback", {}, "x-auth-token not found")
    await refused(client, "/v2/p/notifications/sms/callback", {"X-Auth-Token": "key-of-p"}, "decrypt token fail")
