"""Huawei's own Python SDK core, unmodified, with its own signer, against the service."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.client import Client as SdkClient
from huaweicloudsdkcore.client import ClientBuilder
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException, SdkException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.sdk_response import SdkResponse
from smn import ACCESS_KEY, OTHER, PROJECT, REGION, SECRET_KEY, SMS, TOML

if TYPE_CHECKING:
    from conftest import Service

SENT = {"message": "【签名】 你好", "mobile": "13800138000"}


class Answer(SdkResponse):  # type: ignore[misc]  # the SDK has no types
    """An answer as the SDK's generators write one."""

    openapi_types = {"request_id": "str"}  # noqa: RUF012 as the SDK does
    attribute_map = {"request_id": "request_id"}  # noqa: RUF012 as the SDK does

    def __init__(self, request_id: str | None = None) -> None:
        """Take the fields of the answer."""
        super().__init__()
        self.request_id = request_id


class Sdk:
    """The SDK's client, called in a thread, because it blocks."""

    def __init__(self, url: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> None:
        """Build the client as an application does; it asks the service for its project."""
        BasicCredentials._CACHE.clear()  # noqa: SLF001 the SDK remembers projects over all tests
        credentials = BasicCredentials(access_key, secret_key).with_iam_endpoint(url)
        builder = ClientBuilder(SdkClient).with_http_config(HttpConfig(timeout=10)).with_credentials(credentials)
        self.client: Any = builder.with_region(Region(REGION, url)).build()
        self.client.model_package = SimpleNamespace(Answer=Answer)

    def call(self, method: str, path: str, query: list[tuple[str, Any]] | None = None, body: Any = None) -> Any:
        """Call a path, signed; return the decoded answer."""
        response = self.client.do_http_request(
            method,
            path,
            query_params=query or [],
            header_params={"Content-Type": "application/json; charset=UTF-8"},
            body=None if body is None else json.dumps(body),
            response_type="Answer",
        )
        answer = json.loads(response.raw_content)
        assert answer["request_id"] == response.request_id
        return answer


@pytest.fixture
async def url(service: Service) -> str:
    """Return the URL of a service with two projects."""
    client = await service(TOML)
    return str(client.make_url("")).rstrip("/")


async def test_the_sdk_makes_every_call(url: str) -> None:
    """The SDK finds its project and makes every call, with ids and texts that have to be encoded."""
    sdk = await asyncio.to_thread(Sdk, url)
    assert sdk.client.get_credentials().project_id == PROJECT
    now = int(time.time() * 1000)
    times: list[tuple[str, Any]] = [("start_time", now - 60_000), ("end_time", now + 60_000)]

    def calls() -> None:
        assert len(sdk.call("GET", f"{SMS}/callback")["callback"]) == 3
        assert len(sdk.call("GET", f"{SMS}/callback", [("event_type", "sms_reply_event")])["callback"]) == 1
        route = {"event_type": "sms_reply_event", "topic_urn": f"urn:smn:{REGION}:{PROJECT}:answers"}
        sdk.call("PUT", f"{SMS}/callback", body={"callback": [route]})
        assert sdk.call("GET", f"{SMS}/callback", [("event_type", "sms_reply_event")])["callback"] == [route]
        for message_id in ("5000%3A1045", "a%20b~%C3%A9"):
            assert sdk.call("PUT", f"{SMS}/message/{message_id}", body=SENT)["created"]
            assert sdk.call("GET", f"{SMS}/message/{message_id}")["message"] == SENT["message"]
        batch = [{**SENT, "message_id": f"m{i}", "sign_id": "签名 +%"} for i in range(100)]
        assert sdk.call("POST", f"{SMS}/message", body=batch)["failed"] == 0
        query = [*times, ("sign_id", "签名 +%"), ("offset", 90), ("limit", 100), ("status", 0)]
        assert sdk.call("GET", f"{SMS}/report", query)["count"] == 10

    await asyncio.to_thread(calls)


async def test_an_endpoint_and_a_project_id_instead_of_a_region(url: str) -> None:
    """Then the SDK asks for no project, as the README says."""
    credentials = BasicCredentials(ACCESS_KEY, SECRET_KEY, PROJECT)
    builder = ClientBuilder(SdkClient).with_http_config(HttpConfig(timeout=10)).with_credentials(credentials)
    client = builder.with_endpoint(url).build()
    client.model_package = SimpleNamespace(Answer=Answer)
    path, headers = f"{SMS}/callback", {"Content-Type": "application/json"}
    call = partial(client.do_http_request, "GET", path, header_params=headers, response_type="Answer")
    response = await asyncio.to_thread(call)
    assert len(response.request_id) == 32


async def test_a_region_that_is_not_the_projects(url: str) -> None:
    """The SDK looks its project up by the region's name: it finds none, and says so."""
    credentials = BasicCredentials(ACCESS_KEY, SECRET_KEY).with_iam_endpoint(url)
    builder = ClientBuilder(SdkClient).with_credentials(credentials).with_region(Region("elsewhere", url))
    with pytest.raises(SdkException, match="Failed to get project id of region 'elsewhere'"):
        await asyncio.to_thread(builder.build)


async def test_errors_as_the_sdk_reads_them(url: str) -> None:
    """The SDK's exceptions carry the status, the code, the text and the request's id of our errors."""
    sdk = await asyncio.to_thread(Sdk, url)

    def failed(path: str, status: int, code: str, query: list[tuple[str, Any]] | None = None) -> None:
        with pytest.raises(ClientRequestException) as caught:
            sdk.call("GET", path, query)
        assert (caught.value.status_code, caught.value.error_code) == (status, code)
        assert len(caught.value.request_id) == 32
        assert caught.value.error_msg

    await asyncio.to_thread(failed, f"{SMS}/message/unknown", 404, "SMN.0102")
    await asyncio.to_thread(failed, f"{SMS}/callback", 400, "SMN.0100", [("event_type", "x")])
    await asyncio.to_thread(failed, f"/v2/{OTHER}/notifications/sms/callback", 403, "SMN.0001")
    sdk.client.get_credentials().sk = "wrong"
    await asyncio.to_thread(failed, f"{SMS}/callback", 401, "APIG.0301")
