"""The documents are true: the service does what they say, and they say all that it does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from servers import Receiver, free_port
from smn import PROJECT, TOML

from receiver.app import create_app
from receiver.providers import PROVIDERS
from receiver.settings import read_settings
from receiver.web.documents import asyncapi, openapi
from receiver.web.documents.curl import Bases, curl
from receiver.web.documents.samples import PROJECT as DOCUMENTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Client
    from servers import RedisServer

clients = count(1)
bounded = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
    ignored_auth,
)


#: The project that the documents speak of.
_DOCUMENTED = f"""
region = "cn-north-4"
[projects.{DOCUMENTED}]
default = true
callback_keys = ["key-of-the-provider"]
tokens = ["token-of-the-shop"]
users = {{anna = "her-password"}}
"""


@pytest.fixture(scope="module")
def smn_url(valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a service with two projects, in a process of its own."""
    folder = tmp_path_factory.mktemp("openapi")
    config = folder / "receiver.toml"
    config.write_text(TOML, encoding="utf-8")
    environ = {"REDIS_URL": valkey.url, "RECEIVER_CONFIG": str(config), "RECEIVER_LOG_LEVEL": "warning"}
    environ["RECEIVER_TRUSTED_PROXIES"] = "127.0.0.1"
    receiver = Receiver(folder, environ)
    yield receiver.url
    receiver.stop()
    assert "Traceback" not in receiver.output


# The stream of the console goes on for minutes; tests/web/console reads it.
document = schemathesis.openapi.from_dict(openapi.document()).exclude(operation_id="WatchEvents")


@document.hook("map_path_parameters")
def in_our_project(_context: Any, parameters: Any) -> Any:
    """Ask about a project that there is."""
    if parameters and "project_id" in parameters:
        parameters["project_id"] = PROJECT
    return parameters


def call(case: Any, url: str, *checks: Any) -> None:
    """Call a generated case with good credentials, and check the answer.

    Each comes from a client of its own: checks leave credentials out, and too many wrong ones from one would be 429.
    """
    client = f"2001:db8:{next(clients):x}::1"
    headers = {**dict(case.headers or {}), "X-Auth-Token": "static-token", "X-Forwarded-For": client}
    parameters = {**dict(case.query or {}), **({} if case.path.startswith("/v") else {"key": "callback-key"})}
    case.call_and_validate(base_url=url, headers=headers, params=parameters, checks=list(checks), timeout=10)


@document.parametrize()
@bounded
def test_the_service_keeps_to_its_document(case: Any, smn_url: str) -> None:
    """Whatever is sent, the answer has a status, a type and a shape that the document promises."""
    call(case, smn_url, *CHECKS)


def refused(context: Any, response: Any, case: Any) -> bool | None:
    """Check that invalid data is refused, also by 413: several long texts are too large together."""
    return None if response.status_code == 413 else negative_data_rejection(context, response, case)


@document.include(operation_id=["UpdateSmsEvent", "CreateToken", "RegisterSmsMessage"]).parametrize()
@bounded
def test_what_the_document_forbids_is_refused(case: Any, smn_url: str) -> None:
    """A body that does not fit the document is not accepted."""
    call(case, smn_url, refused)


def test_the_document_forbids_what_the_service_does() -> None:
    """Times before 1970, and line breaks."""
    sent = openapi.document()["components"]["schemas"]["Sent"]["properties"]
    assert sent["submit_time"]["minimum"] == 0
    assert (sent["fee_num"]["minimum"], sent["fee_num"]["maximum"]) == (1, 1000)
    assert not re.search(sent["mobile"]["pattern"], "1\x00")


def test_every_route_is_documented(tmp_path: Path) -> None:
    """The application's routes and the document's operations are the same."""
    app = create_app(read_settings({"RECEIVER_DATA_DIR": str(tmp_path)}), "redis://127.0.0.1:1/0")
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    documented = {
        (method.upper(), path) for path, operations in openapi.document()["paths"].items() for method in operations
    }
    assert documented == served


def test_the_endpoints_of_any_provider_name_those_that_they_take() -> None:
    """Each of them under the method that it uses, with what an answer may be."""
    operations = openapi.document()["paths"]["/callbacks/{provider}/{project_id}"]
    for method, operation in operations.items():
        named = [parameter for parameter in operation["parameters"] if parameter["name"] == "provider"]
        taken = [name for name, provider in PROVIDERS.items() if method.upper() in provider.methods]
        assert named[0]["schema"]["enum"] == taken
        assert set(operation["responses"]["200"]["content"]) >= {PROVIDERS[name].ack.content_type for name in taken}
        assert all(f"`{name}` ({PROVIDERS[name].title})" in operation["description"] for name in taken)
    assert set(operations) == {"get", "post"}


def test_the_stream_document_says_what_each_field_means_and_which_may_be_left_out() -> None:
    """Only Tencent tells all of them."""
    schemas = asyncapi.document()["components"]["schemas"]
    assert schemas["ReportData"]["required"] == ["event_type", "message_id", "status", "status_desc"]
    assert schemas["ReplyData"]["required"] == ["event_type", "reply", "mobile"]
    for schema in schemas.values():
        assert [name for name, about in schema["properties"].items() if not about.get("description")] == []


async def test_the_page_shows_every_operation_and_loads_nothing(client: Client) -> None:
    """The page shows every operation and schema, and loads nothing from anywhere."""
    response = await client.get("/docs")
    page = await response.text()
    assert response.content_type == "text/html"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "<script" not in page
    document = await (await client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f'<b class="{method}">{method.upper()}</b> <code>{path.replace("/", "<wbr>/")}</code>' in page
            assert f'id="{operation["operationId"]}"' in page
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in page
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))


def test_the_command_lines_of_the_page_work_as_they_stand(serve: Callable[..., Receiver], tmp_path: Path) -> None:
    """Each gets an answer of 2xx from its port, once what it asks for was posted by those before it."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the command lines of the documents are not run")
    config = tmp_path / "receiver.toml"
    config.write_text(_DOCUMENTED, encoding="utf-8")
    internal = free_port()
    service = serve(RECEIVER_CONFIG=str(config), RECEIVER_INTERNAL_PORT=str(internal))
    bases = Bases.of(service.port, internal)
    environ = {"PATH": os.environ["PATH"], "KEY": "key-of-the-provider", "TOKEN": "token-of-the-shop"}
    document = openapi.document()
    operations = [(method, path, one) for path, each in document["paths"].items() for method, one in each.items()]
    for method, path, operation in sorted(operations, key=lambda one: one[0] == "get"):
        line = curl(method, path, operation, document["components"]["schemas"], bases)
        endless = operation["operationId"] == "WatchEvents"
        ran = subprocess.run(
            ["/bin/sh", "-c", f"{line} -sSf {'-m 5' if endless else ''}"], env=environ, capture_output=True, check=False
        )
        if endless:
            assert ran.stdout.startswith(b"data: ")
        else:
            assert (ran.returncode, ran.stderr) == (0, b""), line


def test_each_type_of_event_has_a_sample() -> None:
    """It is of that type, and has what the schema requires."""
    components = asyncapi.document()["components"]
    for name, message in components["messages"].items():
        (shown,) = message["examples"]
        assert shown["payload"]["type"] == shown["payload"]["data"]["event_type"] == name
        schema = message["payload"]["properties"]["data"]["$ref"].rpartition("/")[2]
        assert set(components["schemas"][schema]["required"]) <= set(shown["payload"]["data"])


async def test_the_stream_document_is_up_to_date(client: Client) -> None:
    """The AsyncAPI document of the service and the one in the repository are the same, and up to date."""
    served = await (await client.get("/asyncapi.json")).json()
    assert served == json.loads(asyncapi.FILE.read_text("utf-8")), asyncapi.__doc__
    assert served["asyncapi"] == "3.0.0"
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(served))
    for reference in references:
        node: Any = served
        for step in reference.split("/"):
            node = node[step]
