"""An open project is for programs on this machine: web pages can neither post to it nor read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from http_wire import ask, request
from messages import OK, body, report

from receiver.web.browsers import is_local

if TYPE_CHECKING:
    from http_wire import Answer
    from servers import Receiver

LOOKUPS = "/v2/default/notifications/sms"
FOREIGN = [
    {"Host": "evil.example"},  # DNS rebinding: the name of the page's own server leads here now
    {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec_Fetch_Site": "cross-site"},
]
OURS = [
    {},
    {"Host": "localhost:8080"},
    {"Host": "LOCALHOST"},
    {"Host": "app.localhost:8080"},
    {"Host": "127.0.0.1:8080"},
    {"Host": "127.8.9.10"},
    {"Host": "[::1]:8080"},
    {"Host": "localhost:8080", "Origin": "http://localhost:8080", "Sec_Fetch_Site": "same-origin"},
    {"Sec_Fetch_Site": "none"},
]


async def get(service: Receiver, path: str, **headers: str) -> Answer:
    """GET a path."""
    return await ask(service.port, request(b"", path, "GET", **headers))


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_page_cannot_post_callbacks(receiver: Receiver, headers: dict[str, str]) -> None:
    """Nor when the url has been admitted before."""
    for path in ("/sms/callback", "/sms/callback/default", "/callbacks/tencent/default"):
        assert (await ask(receiver.port, request(body([report()]), path))).json == OK
        answer = await ask(receiver.port, request(body([report()]), path, **headers))
        assert (answer.status, answer.json["result"]) == (403, 403)
        assert "callback_keys" in answer.json["errmsg"]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_page_can_neither_read_nor_change_what_lookups_know(
    receiver: Receiver, headers: dict[str, str]
) -> None:
    """In SMN's words, with the reason."""
    name = b'{"auth":{"identity":{"password":{"user":{"name":"a","password":"b"}}}}}'
    for one in (
        request(b"", f"{LOOKUPS}/callback", "GET", **headers),
        request(b"", f"{LOOKUPS}/report?sign_id=default&start_time=0&end_time=1", "GET", **headers),
        request(b'{"message":"x"}', f"{LOOKUPS}/message/1", "PUT", **headers),
        request(b"", f"{LOOKUPS}/message/1", "GET", **headers),
        request(name, "/v3/auth/tokens", **headers),
        request(b"", "/v3/projects?name=local", "GET", **headers),
    ):
        answer = await ask(receiver.port, one)
        assert (answer.status, answer.json["code"]) == (403, "SMN.0001")
        assert "the project is open" in answer.json["message"]
    assert (await get(receiver, "/metrics", **headers)).status == 403


@pytest.mark.parametrize("headers", OURS, ids=str)
async def test_programs_and_the_services_own_pages_go_on_to_work(receiver: Receiver, headers: dict[str, str]) -> None:
    """With any spelling of this machine, and any port."""
    for _ in range(2):
        assert (await ask(receiver.port, request(body([report()]), **headers))).json == OK
    for path in (f"{LOOKUPS}/callback", "/v3/projects?name=local", "/metrics", "/docs", "/readyz"):
        assert (await get(receiver, path, **headers)).status == 200


async def test_a_request_without_a_host_is_from_no_browser(receiver: Receiver) -> None:
    """HTTP/1.0 has none."""
    content = body([report()])
    data = b"POST /sms/callback HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
    assert (await ask(receiver.port, data)).status == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_the_documents_and_health_are_for_everybody(receiver: Receiver, headers: dict[str, str]) -> None:
    """A link from another site leads to the page, and a load balancer asks by any name."""
    for path in ("/docs", "/openapi.json", "/asyncapi.json", "/livez", "/readyz"):
        assert (await get(receiver, path, **headers)).status == 200


@pytest.fixture(scope="module")
def mixed(serve_all, tmp_path_factory) -> Receiver:
    """Start a receiver with an open project, and closed ones."""
    config = tmp_path_factory.mktemp("mixed") / "receiver.toml"
    config.write_text(
        '[projects.open]\n[projects.keyed]\ncallback_keys = ["key-of-one"]\ntokens = ["token-of-one"]\n'
        '[projects.fenced]\nallowed_networks = ["127.0.0.1"]\n',
        encoding="utf-8",
    )
    return serve_all(RECEIVER_CONFIG=str(config))


async def test_projects_with_keys_are_called_by_any_name(mixed: Receiver) -> None:
    """And so are those with allowed networks, but not by a page."""
    for _ in range(2):
        for headers, statuses in (
            ({"Host": "sms.example.com"}, (403, 200, 200)),
            ({"Host": "sms.example.com", "Origin": "https://evil.example"}, (403, 200, 403)),
        ):
            paths = ("/sms/callback/open", "/sms/callback/keyed?key=key-of-one", "/sms/callback/fenced")
            found = [(await ask(mixed.port, request(b"[]", path, **headers))).status for path in paths]
            assert tuple(found) == statuses
    assert (await get(mixed, "/v2/open/notifications/sms/callback", Host="sms.example.com")).status == 403
    path = "/v2/keyed/notifications/sms/callback"
    assert (await get(mixed, path, Host="sms.example.com", X_Auth_Token="token-of-one")).status == 200


async def test_an_operator_may_say_that_other_names_lead_here(serve) -> None:
    """RECEIVER_ALLOW_OPEN=1 lets any host in; pages of other origins stay out."""
    service = serve(RECEIVER_ALLOW_OPEN="1")
    for path in ("/sms/callback", "/sms/callback"):
        named = await ask(service.port, request(b"[]", path, Host="receiver.internal:8080"))
        assert named.json == OK
        page = await ask(service.port, request(b"[]", path, Host="receiver.internal", Origin="https://evil.example"))
        assert page.status == 403


@pytest.mark.parametrize(
    "host",
    ["localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", "[::2]", "::1",
     "evil.example#localhost", "user@localhost", "localhost:80:80", "[localhost]", "[::1", "127.0.0.1:x"],
)  # fmt: skip
def test_names_that_only_look_local_are_foreign(host: str) -> None:
    """Another machine may be behind them."""
    assert not is_local(host)
