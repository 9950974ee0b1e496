"""The lookups over HTTP: registrations, texts, reports, routes; good calls and bad ones."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import messages as tencent
import pytest
from aiohttp import ClientSession, TCPConnector
from http_wire import ask, request, wire
from smn import PROJECT, SMS, TOML, Smn
from yarl import URL

from receiver.events import EventType
from receiver.log import configure
from receiver.lookups.rebuild import rebuild
from receiver.lookups.reports import Reports
from receiver.lookups.reports import Status as StatusEvent
from receiver.projects import Project
from receiver.route_overrides import RouteOverrides
from receiver.routing import Routing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis.asyncio
    from conftest import Service
    from servers import Receiver, RedisServer

DEFAULT_SIGN = "6be340e91e5241e4b5d85837e6709104"
SENT = {"message": "【签名】 hello", "mobile": "13800138000", "nation_code": "86", "extend_code": "01"}
URN = f"urn:smn:cn-north-4:{PROJECT}:"


def now_ms() -> int:
    """Return the time in ms since the epoch."""
    return int(time.time() * 1000)


def times(**more: Any) -> dict[str, str]:
    """Return the query for the last hour."""
    return {
        "start_time": str(now_ms() - 3600_000),
        "end_time": str(now_ms() + 60_000),
        "sign_id": DEFAULT_SIGN,
        **{name: str(value) for name, value in more.items()},
    }


async def test_a_registered_text_can_be_read(smn: Smn) -> None:
    """A registered text is there, whatever its id is made of; registering it again is no error."""
    for message_id in ("589f2f7343224f8c9597b05a9a0bcsde", "5000:1045710669157053657849499619", "a b%2B+é", "{a}b}"):
        path = f"/message/{message_id.replace('%', '%25')}"
        assert await smn("PUT", path, json=SENT) == (200, {"message_id": message_id, "created": True})
        assert await smn("PUT", path, json=SENT) == (200, {"message_id": message_id, "created": False})
        assert await smn("GET", path) == (200, {"message": SENT["message"]})


async def test_unknown_and_expired_messages_are_told_apart(smn: Smn) -> None:
    """A text that was never there and one that has gone are told apart."""
    status, body = await smn("GET", "/message/never")
    assert (status, body["code"]) == (404, "SMN.0102")
    assert "no message was registered" in body["message"]
    yesterday = now_ms() - 25 * 3600_000
    assert (await smn("PUT", "/message/old", json={**SENT, "submit_time": yesterday}))[0] == 200
    status, body = await smn("GET", "/message/old")
    assert (status, body["code"]) == (404, "SMN.0102")
    assert "expired" in body["message"]


async def test_numbers_are_taken_as_json_writes_them(smn: Smn) -> None:
    """900.0 is an integer to JSON, also in milliseconds; 900.5 and what no field can hold are none."""
    at = float(now_ms() - 5000)
    assert (await smn("PUT", "/message/m", json={**SENT, "fee_num": 900.0, "submit_time": at}))[0] == 200
    _, body = await smn("GET", "/report", params=times())
    assert body["data"][0]["fee_num"] == 900
    assert body["data"][0]["submit_time"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1000))
    for wrong in ({"fee_num": 900.5}, {"fee_num": 1e300}, {"submit_time": -1}, {"submit_time": 0.5}):
        assert (await smn("PUT", "/message/m", json={**SENT, **wrong}))[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("PUT", "/message/m", [], "Expected an object."),
        ("PUT", "/message/m", {**SENT, "mobile": "1\n"}, "mobile: Must be printable text in one line."),
        ("PUT", "/message/m", {**SENT, "mobile": "1\x002"}, "mobile: Must be printable text in one line."),
        ("PUT", "/callback", [], "Expected an object."),
        ("PUT", "/callback", {"callback": [5]}, "callback[0]: Expected an object."),
        ("POST", "/message", [5], "no message is valid: [0]: Expected an object."),
    ],
)
async def test_a_mistake_is_said_in_words(smn: Smn, method: str, path: str, body: object, said: str) -> None:
    """For the person who has to mend it."""
    assert await smn(method, path, json=body) == (400, {"code": "SMN.0013", "message": said})


@pytest.mark.parametrize("message_id", ["a%2Fb", "x" * 129, "a%0Ab", "%00"])
async def test_malformed_message_ids_are_400(smn: Smn, message_id: str) -> None:
    """An id that cannot be one is 400, in every call."""
    headers = {"X-Auth-Token": "static-token"}
    path = URL(f"/v2/{PROJECT}/notifications/sms/message/{message_id}", encoded=True)
    for method in ("GET", "PUT"):
        response = await smn.client.request(method, path, headers=headers, data=json.dumps(SENT))
        assert (response.status, (await response.json())["code"]) == (400, "SMN.0102")


async def test_each_of_many_messages_has_its_own_result(smn: Smn) -> None:
    """Each message has its own result; a bad one harms no other."""
    good = {"message_id": "m1", **SENT, "submit_time": "2026-11-21T08:00:00+08:00", "fee_num": "3"}
    batch = [good, {"message_id": "m2"}, 5, good, {**SENT, "message_id": "m/3"}, {**good, "message_id": "m4", "x": 1}]
    status, body = await smn("POST", "/message", json=batch)
    assert (status, body["count"], body["failed"]) == (200, 6, 3)
    assert [(r.get("message_id"), r.get("created"), r.get("code")) for r in body["results"]] == [
        ("m1", True, None),
        ("m2", None, "SMN.0013"),
        (None, None, "SMN.0013"),
        ("m1", False, None),
        ("m/3", None, "SMN.0102"),
        ("m4", True, None),
    ]
    assert body["results"][1]["message"].startswith("[1].message: ")
    assert await smn("POST", "/message", json=[]) == (200, {"count": 0, "failed": 0, "results": []})


async def test_a_message_with_one_signature_too_many_is_refused(smn: Smn, redis: redis.asyncio.Redis) -> None:
    """A message with it is refused and says why; those beside it are registered."""
    known = {f"s{sign}": sign for sign in range(1, 10_001)} | {f"n{sign}": sign for sign in range(1, 10_001)}
    await redis.hset(f"{{lookups:{PROJECT}}}:signs", mapping=known)
    batch = [{**SENT, "message_id": "m1", "sign_id": "7"}, {**SENT, "message_id": "m2", "sign_id": "another"}]
    status, body = await smn("POST", "/message", json=batch)
    assert (status, body["count"], body["failed"]) == (200, 2, 1)
    assert body["results"][0] == {"message_id": "m1", "created": True}
    assert (body["results"][1]["message_id"], body["results"][1]["code"]) == ("m2", "SMN.0080")
    assert body["results"][1]["message"].startswith("[1].sign_id: The project already has 10,000 signatures")
    status, body = await smn("POST", "/message", json=batch[1:])
    assert (status, body["code"]) == (400, "SMN.0013")
    assert "[0].sign_id: The project already has 10,000 signatures" in body["message"]
    status, body = await smn("PUT", "/message/m2", json={**SENT, "sign_id": "another"})
    assert (status, body["code"]) == (400, "SMN.0080")
    assert (await smn("GET", "/message/m2"))[0] == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'[{"message_id":"m","mobile":"1","message":"\\ud800"}]', "[0]: invalid Unicode"),
        (b"[" * 100_000, "not JSON"),
        (b"[" * 30_000 + b"]" * 30_000, "[0]: nested too deeply"),
        (b"[" + b",".join([b"1"] * 100_000) + b"]", "at most 1000"),
        (b'{"message_id":"m"}', "expected an array"),
        (b'[{"message_id":"m"}]', "[0].message"),
        (b"[" + b",".join([b"{}"] * 1001) + b"]", "at most 1000"),
    ],
)
async def test_a_body_that_cannot_be_read_is_400_and_says_why(smn: Smn, content: bytes, said: str) -> None:
    """What cannot be read as a whole is 400, and the message says what is wrong."""
    status, body = await smn("POST", "/message", data=content)
    assert (status, body["code"]) == (400, "SMN.0013")
    assert said in body["message"]


@pytest.mark.parametrize("routes", [5, 1000, 100_000])
async def test_more_routes_than_there_are_types_are_refused_before_they_are_read(smn: Smn, routes: int) -> None:
    """Reading each of them would take a second in which nobody else is served."""
    status, body = await smn("PUT", "/callback", json={"callback": [{}] * routes})
    assert (status, body["code"]) == ((400, "SMN.0013") if routes < 100_000 else (413, "SMN.0013"))
    assert ("Longer than maximum length 4" if status == 400 else "65536 bytes") in body["message"]


@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("PUT", "/message/m", 64 << 10),
        ("PUT", "/callback", 64 << 10),
        ("POST", "/message", 4_096_000),
    ],
)
async def test_a_body_over_the_limit_is_413(
    smn_receiver: Receiver, method: str, path: str, limit: int, encoding: str
) -> None:
    """It is 413, and the limit counts bytes after decompression. One byte less is read, and is then not JSON."""
    token = {"X_Auth_Token": "static-token"}
    for size, status in ((limit, 400), (limit + 1, 413)):
        body = b"x" * size
        data = gzip.compress(body) if encoding else body
        answer = await ask(smn_receiver.port, request(data, SMS + path, method, **token, Content_Encoding=encoding))
        assert (answer.status, answer.json["code"]) == (status, "SMN.0013")


async def test_a_message_over_the_limit_harms_no_other(smn: Smn) -> None:
    """One message of a batch may be as large as the body of a PUT."""
    batch = [{**SENT, "message_id": "m1", "x": "y" * (64 << 10)}, {**SENT, "message_id": "m2"}]
    status, body = await smn("POST", "/message", json=batch)
    assert (status, body["failed"]) == (200, 1)
    assert body["results"][0]["message"] == "[0]: larger than 65536 bytes"
    assert body["results"][1] == {"message_id": "m2", "created": True}


async def test_the_longest_message_fits(smn: Smn) -> None:
    """Every field at its bound, in JSON's longest spelling for the characters of languages."""
    longest = {"message": "签" * 10_000, "mobile": "签" * 32, "nation_code": "签" * 8, "sign_id": "签" * 128}
    data = json.dumps({**longest, "extend_code": "签" * 32, "submit_time": "2026-11-21T08:00:00+08:00", "fee_num": 9})
    assert (await smn("PUT", "/message/m", data=data.encode()))[0] == 200


async def test_bodies_of_lookups_count_among_the_bytes_in_flight(
    serve: Callable[..., Receiver], tmp_path: Path
) -> None:
    """While one holds all the room, the next is 503, in SMN's words, and may be sent again."""
    config = tmp_path / "smn.toml"
    config.write_text(TOML, encoding="utf-8")
    receiver = serve(RECEIVER_CONFIG=str(config), RECEIVER_MAX_INFLIGHT_BYTES="1MiB")
    path, token = f"{SMS}/message", {"X_Auth_Token": "static-token"}
    small = request(json.dumps([{**SENT, "message_id": "m"}]).encode(), path, **token)
    async with wire(receiver.port) as holder:
        await holder.send(request(path=path, **token, Content_Length="2000000") + b"[" * (1 << 20))
        async with asyncio.timeout(8):
            while receiver.figure("receiver_in_flight_bytes") < 1 << 20:
                await asyncio.sleep(0.01)
        answer = await ask(receiver.port, small)
        assert (answer.status, answer.json["code"]) == (503, "SMN.0018")
        assert int(answer.headers["retry-after"]) >= 1
    async with asyncio.timeout(8):
        while receiver.figure("receiver_in_flight_bytes"):
            await asyncio.sleep(0.01)
    answer = await ask(receiver.port, small)
    assert answer.status == 200


async def test_reports_have_the_fields_of_smn_newest_first(smn: Smn, redis: redis.asyncio.Redis) -> None:
    """Reports have SMN's fields, newest first; what was not registered has the default signature."""
    sent, came = now_ms() - 120_000, now_ms() - 60_000
    await smn("PUT", "/message/m1", json={**SENT, "submit_time": sent})
    await Reports(redis).apply(PROJECT, [StatusEvent("m2", 2, came, "REJECTD", mobile="13900139000")])
    status, body = await smn("GET", "/report", params=times(offset=0, limit=100))
    assert (status, body["count"]) == (200, 2)
    second, first = body["data"]
    assert first == {
        "message_id": "m1",
        "status": 0,
        "sign_id": DEFAULT_SIGN,
        "status_desc": None,
        "fee_num": 1,
        "extend_code": "01",
        "nation_code": "86",
        "mobile": "13800138000",
        "submit_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(sent // 1000)),
        "deliver_time": None,
    }
    assert second == {
        "message_id": "m2",
        "status": 2,
        "sign_id": DEFAULT_SIGN,
        "status_desc": "REJECTD",
        "fee_num": 0,  # not known; SMN's document has an int
        "extend_code": None,
        "nation_code": None,
        "mobile": "13900139000",
        "submit_time": None,
        "deliver_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(came // 1000)),
    }
    for more, ids in (
        ({"status": 2}, ["m2"]),
        ({"mobile": "13800138000"}, ["m1"]),
        ({"message_id": "m2", "status": 2, "mobile": "13900139000"}, ["m2"]),
        ({"message_id": "m2", "status": 1}, []),
        ({"offset": 1}, ["m1"]),
        ({"limit": 1}, ["m2"]),
        ({"sign_id": "other"}, []),
        ({"status": "", "mobile": "", "message_id": ""}, ["m2", "m1"]),
        ({"unknown": "1"}, ["m2", "m1"]),
    ):
        _, body = await smn("GET", "/report", params=times(**more))
        assert [row["message_id"] for row in body["data"]] == ids, more


async def test_the_number_of_a_report_whatever_its_spelling(service: Service, redis: redis.asyncio.Redis) -> None:
    """A report is found under each, and a registration in another one changes nothing; events keep the provider's."""
    client, now = await service(), _now_utc8()
    spellings = ["13822220000", "8613822220000", "+8613822220000"]
    sent = [tencent.report(f"m{i}", mobile=mobile, user_receive_time=now) for i, mobile in enumerate(spellings)]
    assert (await client.post("/sms/callback", json=sent)).status == 200
    assert [event["data"]["mobile"] for event in await tencent.events(redis, tencent.SUCCESS)] == spellings
    path = "/v2/default/notifications/sms"
    registered = {"message": "t", "mobile": "+8613822220000"}
    assert (await client.put(f"{path}/message/m0", json=registered)).status == 200
    await rebuild(redis, Reports(redis), [tencent.SUCCESS], lambda *_: None)
    for mobile in (*spellings, "008613822220000"):
        response = await client.get(f"{path}/report", params=times(sign_id="default", mobile=mobile, status=1))
        rows = (await response.json())["data"]
        assert [row["message_id"] for row in rows] == ["m2", "m1", "m0"]
        assert {(row["nation_code"], row["mobile"]) for row in rows} == {("86", "13822220000")}


def _now_utc8() -> str:
    """Return the time as Tencent writes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 8 * 3600))


@pytest.mark.parametrize(("kept", "said"), [("7d", "7 days"), ("90m", "90 minutes"), ("24h", "1 day")])
async def test_all_that_is_kept_may_be_asked_for(service: Service, kept: str, said: str) -> None:
    """A client computes "the last 7 days" by its own clock, and a little before it is read; up to a minute."""
    smn = Smn(await service(TOML, RECEIVER_REPORT_RETENTION=kept))
    oldest = now_ms() - int({"7d": 7 * 86400, "90m": 90 * 60, "24h": 86400}[kept] * 1000)
    assert (await smn("GET", "/report", params=times(start_time=oldest - 50_000)))[0] == 200
    status, body = await smn("GET", "/report", params=times(start_time=oldest - 61_000))
    assert (status, body["code"]) == (400, "SMN.0113")
    assert body["message"] == f"The start time and end time must be within the past {said} (RECEIVER_REPORT_RETENTION)."


async def test_the_document_says_which_fields_may_be_null(service: Service) -> None:
    """And says of each of them when, so that a client written from it takes every answer."""
    client = await service()
    document = await (await client.get("/openapi.json")).json()
    fields = document["components"]["schemas"]["ReportRow"]["properties"]
    null = {name for name, field in fields.items() if "null" in field["type"]}
    assert null == {"status_desc", "extend_code", "nation_code", "mobile", "submit_time", "deliver_time"}
    assert all("null " in fields[name]["description"] for name in null)
    assert "0: unknown" in fields["fee_num"]["description"]


async def test_a_project_without_a_signature_answers_to_its_id(service: Service, redis: redis.asyncio.Redis) -> None:
    """So that its reports can be found, although a query has to name a signature. Events are given none."""
    client = await service()
    assert (await client.post("/sms/callback", json=[tencent.reply()])).status == 200
    assert "sign_id" not in (await tencent.events(redis, tencent.REPLY))[0]["data"]
    await Reports(redis).apply("default", [StatusEvent("m", 1, now_ms() - 1000, "DELIVRD")])
    for sign_id, found in (("default", ["default"]), ("another", [])):
        response = await client.get("/v2/default/notifications/sms/report", params=times(sign_id=sign_id))
        assert [row["sign_id"] for row in (await response.json())["data"]] == found


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"offset": -1}, "SMN.0015", "Parameter: Offset or limit is invalid."),
        ({"offset": "x"}, "SMN.0015", "Parameter: Offset or limit is invalid."),
        ({"limit": 0}, "SMN.0015", "Parameter: Offset or limit is invalid."),
        ({"limit": 101}, "SMN.0015", "Parameter: Offset or limit is invalid."),
        ({"limit": "1_0"}, "SMN.0015", "Parameter: Offset or limit is invalid."),
        ({"status": 3}, "SMN.0077", "Parameter: Status is invalid."),
        ({"status": "DELIVRD"}, "SMN.0077", "Parameter: Status is invalid."),
        ({"sign_id": ""}, "SMN.0080", "The signId parameter is invalid."),
        ({"sign_id": "x" * 129}, "SMN.0080", "The signId parameter is invalid."),
        ({"message_id": "a/b"}, "SMN.0102", "Parameter: message_id is invalid."),
        ({"start_time": ""}, "SMN.0103", "The start_time parameter value is invalid."),
        ({"start_time": "2026-11-21"}, "SMN.0103", "The start_time parameter value is invalid."),
        ({"end_time": "-1"}, "SMN.0104", "The end_time parameter value is invalid."),
        ({"end_time": "9" * 400}, "SMN.0104", "The end_time parameter value is invalid."),
        (
            {"start_time": 1},
            "SMN.0113",
            "The start time and end time must be within the past 7 days (RECEIVER_REPORT_RETENTION).",
        ),
        ({"end_time": 1}, "SMN.0114", "The end time must be later than the start time."),
    ],
)
async def test_wrong_report_queries_have_codes_and_texts_of_smn(
    smn: Smn, change: dict[str, Any], code: str, message: str
) -> None:
    """Each mistake has SMN's code and SMN's text."""
    assert await smn("GET", "/report", params=times(**change)) == (400, {"code": code, "message": message})


async def test_start_and_end_may_be_the_same(smn: Smn) -> None:
    """Start and end may be the same, as in the document's own example."""
    at = now_ms() - 1000
    assert (await smn("GET", "/report", params=times(start_time=at, end_time=at)))[0] == 200


async def test_routes_are_listed_by_type(smn: Smn) -> None:
    """All three types, or the one that is asked for; a bare question mark and an empty type are no mistake."""
    for path in ("/callback", "/callback?", "/callback?event_type=", "/callback?offset=0&limit=100"):
        status, body = await smn("GET", path)
        kinds = [item["event_type"] for item in body["callback"]]
        assert (status, kinds) == (200, ["sms_reply_event", "sms_fail_event", "sms_success_event"])
    assert (await smn("GET", "/callback?event_type=sms_rejected_event")) == (
        400,
        {"code": "SMN.0100", "message": "The eventType parameter is invalid."},
    )
    status, body = await smn("GET", "/callback?event_type=sms_sent_event")
    assert (status, body["code"]) == (400, "SMN.0100")
    status, body = await smn("PUT", "/callback", json=route("sent", f"{URN}t"))
    assert (status, body["code"]) == (400, "SMN.0100")


PENDING = f"""
[projects.{PROJECT}.providers.messagebird]
pending = true
"""


async def test_states_that_are_not_final_have_a_route_and_a_topic_and_a_report(
    service: Service, redis: redis.asyncio.Redis
) -> None:
    """Where the project asks for them: listed as a fourth type, routed, stored, looked after, and found."""
    smn = Smn(await service(TOML + PENDING))
    _, body = await smn("GET", "/callback")
    assert body["callback"][3] == {"event_type": "sms_sent_event", "topic_urn": f"{URN}sms_sent"}
    assert len(body["callback"]) == 4
    state = {"id": "m1", "recipient": "31612345678", "status": "sent", "statusDatetime": _now_utc()}
    path = f"/callbacks/messagebird/{PROJECT}"
    assert (await smn.client.get(path, params={**state, "key": "callback-key"})).status == 200
    assert await smn("PUT", "/callback", json=route("sent", f"{URN}quarantine")) == (
        400,
        {"code": "SMN.0005", "message": "Parameter: TopicUrn is invalid."},
    )
    assert await smn("PUT", "/callback", json=route("sent", f"{URN}on-its-way")) == (200, {})
    state |= {"id": "m2"}
    assert (await smn.client.get(path, params={**state, "key": "callback-key"})).status == 200
    for name, message_id in (("sms_sent", "m1"), ("on-its-way", "m2")):
        (event,) = await tencent.events(redis, URN + name)
        assert (event["type"], event["data"]["message_id"], event["data"]["status"]) == (
            "sms_sent_event",
            message_id,
            0,
        )
    await rebuild(redis, Reports(redis), [f"{URN}sms_sent", f"{URN}on-its-way"], lambda *_: None)
    _, body = await smn("GET", "/report", params=times(message_id="m1", status=0))
    (row,) = body["data"]
    assert (row["status"], row["status_desc"], row["deliver_time"], row["mobile"]) == (0, None, None, "612345678")


@pytest.mark.parametrize("registered", ["before", "after"])
async def test_recipients_of_one_request_have_a_report_each(
    smn: Smn, redis: redis.asyncio.Redis, registered: str
) -> None:
    """Aliyun's ``biz_id`` is the same for both: each report meets the registration of its number."""
    message_id, now = "932702304080415357^0", _now_utc8()
    numbers = ["13900000001", "13900000002"]
    sent = [{**SENT, "message_id": message_id, "mobile": one, "extend_code": one[-1]} for one in numbers]
    common = {"send_time": now, "report_time": now, "err_code": "X", "sms_size": "1", "biz_id": message_id}
    came = [{**common, "phone_number": one, "success": one == numbers[0]} for one in numbers]
    if registered == "before":
        assert (await smn("POST", "/message", json=sent))[1]["failed"] == 0
    answer = await smn.client.post(f"/callbacks/aliyun/{PROJECT}", params={"key": "callback-key"}, json=came)
    assert answer.status == 200
    await rebuild(redis, Reports(redis), [f"{URN}sms_success", f"{URN}sms_fail"], lambda *_: None)
    if registered == "after":
        assert (await smn("POST", "/message", json=sent))[1]["failed"] == 0
    for more, expected in (
        ({}, [("13900000002", 2, "2"), ("13900000001", 1, "1")]),
        ({"mobile": numbers[0]}, [("13900000001", 1, "1")]),
        ({"offset": 1, "limit": 1}, [("13900000001", 1, "1")]),
    ):
        _, body = await smn("GET", "/report", params=times(message_id=message_id, **more))
        assert [(row["mobile"], row["status"], row["extend_code"]) for row in body["data"]] == expected
        assert {row["message_id"] for row in body["data"]} == {message_id}
    assert (await smn("GET", f"/message/{message_id}"))[1] == {"message": SENT["message"]}


def _now_utc() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def route(kind: str, urn: str) -> dict[str, Any]:
    """Return the body of an update of one route."""
    return {"callback": [{"event_type": f"sms_{kind}_event", "topic_urn": urn}]}


async def topic(smn: Smn, kind: str) -> str:
    """Return the topic that a type goes to now."""
    _, body = await smn("GET", f"/callback?event_type=sms_{kind}_event")
    urn: str = body["callback"][0]["topic_urn"]
    return urn


async def test_a_route_that_is_set_is_in_force_at_once(smn: Smn) -> None:
    """A route that is set is in force at once, leaves the others alone, and can be taken back."""
    assert await smn("PUT", "/callback", json=route("fail", f"{URN}elsewhere")) == (200, {})
    assert await smn("PUT", "/callback", json=route("reply", f"{URN}answers")) == (200, {})
    assert await topic(smn, "fail") == f"{URN}elsewhere"
    assert await topic(smn, "reply") == f"{URN}answers"
    assert await topic(smn, "success") == f"{URN}sms_success"
    assert await smn("PUT", "/callback", json=route("fail", "")) == (200, {})
    assert await topic(smn, "fail") == f"{URN}sms_fail"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (route("fail", "no-urn"), "SMN.0140"),
        (route("fail", f"{URN}quarantine"), "SMN.0140"),
        (route("success", "urn:smn:x:another-project:t"), "SMN.0142"),
        (route("reply", f"{URN}-dash"), "SMN.0144"),
        (route("rejected", f"{URN}t"), "SMN.0100"),
        ({"callback": [{"topic_urn": f"{URN}t"}]}, "SMN.0100"),
        ({"callback": route("fail", f"{URN}t")["callback"] * 2}, "SMN.0100"),
        ({"callback": [{"event_type": "sms_fail_event", "topic_urn": 5}]}, "SMN.0005"),
        ({"callback": []}, "SMN.0013"),
        ({"callback": 5}, "SMN.0013"),
        ({}, "SMN.0013"),
        ([], "SMN.0013"),
        (None, "SMN.0013"),
    ],
)
async def test_wrong_routes_are_refused_and_change_nothing(smn: Smn, body: object, code: str) -> None:
    """A route that cannot be one is refused with the code of its event type, and nothing changes."""
    status, answer = await smn("PUT", "/callback", data=json.dumps(body))
    assert (status, answer["code"]) == (400, code)
    assert await topic(smn, "fail") == f"{URN}sms_fail"


async def test_another_replica_has_the_new_routes_within_a_second(service: Service, smn: Smn) -> None:
    """Another replica routes callbacks by the new table within a second, and one that starts later at once."""
    replica = Smn(await service(TOML))
    await smn("PUT", "/callback", json=route("success", f"{URN}moved"))
    end = time.monotonic() + 1
    while await topic(replica, "success") != f"{URN}moved":
        assert time.monotonic() < end, "the other replica did not see it within a second"
        await asyncio.sleep(0.02)
    assert await topic(Smn(await service(TOML)), "success") == f"{URN}moved"


async def test_routes_that_are_none_in_redis(service: Service, redis: redis.asyncio.Redis) -> None:
    """What somebody wrote into Redis by hand is used only where it is a route."""
    hand = (("sms_fail_event", "nonsense"), ("x", f"{URN}t"), ("sms_reply_event", f"{URN}fine"), ("\xff", "\xff"))
    for kind, urn in hand:
        await redis.hset(f"{{lookups:{PROJECT}}}:routes", kind, urn)
    replica = Smn(await service(TOML))
    assert await topic(replica, "fail") == f"{URN}sms_fail"
    assert await topic(replica, "reply") == f"{URN}fine"


async def test_the_topic_of_states_that_are_not_final_is_looked_after(
    service: Service, redis: redis.asyncio.Redis
) -> None:
    """Like those of the other types: its groups are created, and its entries trimmed by age."""
    topic = f"urn:smn:local:{PROJECT}:sms_sent"
    await redis.xadd(topic, {"data": b"old"}, id="1-0")
    options = f"[projects.{PROJECT}.providers.sinch]\npending = true\n"
    await service(f'[projects.{PROJECT}]\nconsumer_groups = ["billing"]\n{options}', RECEIVER_RETENTION="1h")
    async with asyncio.timeout(10):
        while not await redis.exists(topic) or not await redis.xinfo_groups(topic):
            await asyncio.sleep(0.02)
    assert [group["name"] for group in await redis.xinfo_groups(topic)] == [b"billing"]
    await redis.xgroup_setid(topic, "billing", "$")
    async with asyncio.timeout(10):
        while await redis.xlen(topic):
            await asyncio.sleep(0.02)


async def test_topics_that_were_routed_to_are_still_named(redis: redis.asyncio.Redis) -> None:
    """A topic that a change leads away from is still named: what lies there unread must not be forgotten."""
    routing = Routing([Project(id=PROJECT, region="cn-north-4")])
    store = RouteOverrides(redis, routing, configure("error"))
    others = Routing([Project(id=PROJECT, region="cn-north-4")])
    replica = RouteOverrides(redis, others, configure("error"))
    await store.change(PROJECT, {EventType.FAIL: f"{URN}b"}, "test")
    await store.change(PROJECT, {EventType.FAIL: f"{URN}c"}, "test")
    await replica.refresh()
    assert routing.event_topics() == others.event_topics()
    assert set(routing.event_topics()) == {URN + name for name in ("sms_success", "sms_reply", "sms_fail", "b", "c")}
    assert routing[PROJECT].table[EventType.FAIL] == f"{URN}c"


async def test_a_topic_beyond_a_thousand_is_refused(smn: Smn, redis: redis.asyncio.Redis) -> None:
    """Past a thousand a new one is refused and says why; back to a known one, or to none, there is a way."""
    await redis.sadd(f"{{lookups:{PROJECT}}}:topics", *[f"{URN}old{number}" for number in range(996)])
    await asyncio.sleep(1)  # a look at Redis
    assert (await smn("PUT", "/callback", json=route("fail", f"{URN}one-more")))[0] == 200
    status, body = await smn("PUT", "/callback", json=route("fail", f"{URN}too-many"))
    assert (status, body["code"]) == (400, "SMN.0005")
    assert "1,000 topics" in body["message"]
    assert await topic(smn, "fail") == f"{URN}one-more"
    for known in (f"{URN}old7", f"{URN}one-more", ""):
        assert (await smn("PUT", "/callback", json=route("fail", known)))[0] == 200
    assert await redis.scard(f"{{lookups:{PROJECT}}}:topics") == 998


async def test_a_change_of_routes_is_logged_without_secrets(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    """A change of routes is in the log: what, where, and who, but no secret."""
    config = tmp_path / "audited.toml"
    config.write_text(TOML, encoding="utf-8")
    receiver = serve(RECEIVER_CONFIG=str(config))
    url = f"{receiver.url}/v2/{PROJECT}/notifications/sms/callback"
    async with ClientSession(headers={"X-Auth-Token": "static-token"}) as session:
        await session.put(url, json=route("fail", f"{URN}elsewhere"))
        await session.put(url, json=route("reply", f"{URN}answers"))
    lines = [json.loads(line) for line in receiver.output.splitlines() if "routes.changed" in line]
    assert [line["event_type"] for line in lines] == ["sms_fail_event", "sms_reply_event"]
    assert lines[0]["project"] == PROJECT
    assert (lines[0]["before"], lines[0]["topic"]) == (f"{URN}sms_fail", f"{URN}elsewhere")
    assert re.fullmatch("token [0-9a-f]{12}", lines[0]["by"])
    applied = [json.loads(line) for line in receiver.output.splitlines() if "routes.applied" in line]
    assert applied[-1]["routes"] == [f"sms_fail_event to {URN}elsewhere", f"sms_reply_event to {URN}answers"]
    assert "static-token" not in receiver.output


async def test_three_hundred_lookups_at_once_are_all_answered(smn: Smn) -> None:
    """They wait for each other's connections to Redis, and all are answered."""
    await smn("PUT", "/message/m", json=SENT)
    url = smn.client.make_url(f"/v2/{PROJECT}/notifications/sms/message/m")
    async with ClientSession(connector=TCPConnector(limit=0), headers={"X-Auth-Token": "static-token"}) as session:
        answers = await asyncio.gather(*[session.get(url) for _ in range(300)])
    assert Counter(answer.status for answer in answers) == {200: 300}


async def test_without_redis_lookups_are_500_and_routes_are_known(
    service: Service, own_valkey: Callable[..., RedisServer]
) -> None:
    """Without Redis lookups are 500 with SMN.0016; the routes are still known."""
    server = own_valkey()
    client = await service(TOML, REDIS_URL=server.url)
    server.kill()
    headers = {"X-Auth-Token": "static-token"}
    base = f"/v2/{PROJECT}/notifications/sms"
    for method, path, body in (
        ("GET", "/report", None),
        ("GET", "/message/m", None),
        ("PUT", "/message/m", SENT),
        ("POST", "/message", [{**SENT, "message_id": "m"}]),
        ("PUT", "/callback", route("fail", f"{URN}t")),
    ):
        params = times() if path == "/report" else {}
        response = await client.request(method, base + path, headers=headers, json=body, params=params)
        answer = await response.json()
        assert (response.status, answer["code"], answer["message"]) == (500, "SMN.0016", "Database Exceptions.")
    assert (await client.get(f"{base}/callback", headers=headers)).status == 200
