"""The two calls to IAM that SMN's SDKs make first."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from signers import derived, plain, stamp
from smn import OTHER, PROJECT, REGION, TOML

from receiver.projects import Project, Projects
from receiver.web.smn.tokens import LIFETIME, Tokens

if TYPE_CHECKING:
    from conftest import Client, Service

PASSWORD = "pass-of-lookup"


def asking(password: str = PASSWORD, user: str = "lookup", **project: str) -> dict[str, Any]:
    """Return the body of a request for a token, as SMN's Java and Go SDKs write it."""
    who = {"name": user, "password": password, "domain": {"name": "domain"}}
    scope = {"project": project or {"name": REGION}}
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}


@pytest.fixture
async def smn_client(service: Service) -> Client:
    """Return a client for a service with two projects."""
    return await service(TOML)


async def routes(client: Client, token: str, project: str = PROJECT) -> int:
    """Return the status of ListSmsEvent with a token."""
    path = f"/v2/{project}/notifications/sms/callback"
    return (await client.get(path, headers={"X-Auth-Token": token})).status


def workers() -> set[threading.Thread]:
    """Return the threads of ``asyncio.to_thread``."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("asyncio_")}


async def test_a_token_opens_its_project_and_no_other(smn_client: Client) -> None:
    """A token opens its project and no other; what the SDKs read of the answer is there."""
    response = await smn_client.post("/v3/auth/tokens", json=asking())
    body = await response.json()
    assert response.status == 201
    assert body["token"]["project"] == {"id": PROJECT, "name": REGION}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["token"]["expires_at"])
    token = response.headers["X-Subject-Token"]
    assert await routes(smn_client, token) == 200
    assert await routes(smn_client, token, OTHER) == 403
    for changed in (token.upper(), token[:-1], token[:-1] + ("0" if token[-1] != "0" else "1"), f".{token}"):
        assert await routes(smn_client, changed) == 401


async def test_a_scope_picks_the_project(smn_client: Client) -> None:
    """The same user name in two projects: the scope decides, by region or by id, and the password has to be its own."""
    for body, project in (
        (asking("another-password", name="eu-west-0"), OTHER),
        (asking("another-password", name=OTHER), OTHER),
        (asking("another-password", id=OTHER), OTHER),
        (asking(id=PROJECT, name=REGION), PROJECT),
    ):
        response = await smn_client.post("/v3/auth/tokens", json=body)
        assert (await response.json())["token"]["project"]["id"] == project


async def test_wrong_passwords_are_401_and_look_the_same(smn_client: Client) -> None:
    """A wrong password, user, or project is 401 and looks the same."""
    for body in (
        asking("wrong"),
        asking(""),
        asking(user="nobody"),
        asking("", user="nobody"),
        asking("another-password"),
        asking(name="us-east-9"),
    ):
        response = await smn_client.post("/v3/auth/tokens", json=body)
        answer = await response.json()
        assert (response.status, answer["error_code"]) == (401, "APIG.0301")
        assert "X-Subject-Token" not in response.headers


async def test_malformed_requests_are_400_and_say_where(smn_client: Client) -> None:
    """What is no request for a token is 400, a JSON object, and says where."""
    for body in (b"", b"{", b"[]", b"{}", b'{"auth":{"identity":{"methods":["token"]}}}', b'{"auth":{"identity":5}}'):
        response = await smn_client.post("/v3/auth/tokens", data=body)
        answer = await response.json()
        assert (response.status, answer["code"]) == (400, "SMN.0013")
        assert answer["request_id"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize("sign", [plain, derived])
async def test_a_key_is_told_the_projects_that_it_opens(smn_client: Client, sign: Any) -> None:
    """A signed question for the project's id is answered with the projects that the key opens."""
    for name, found in ((REGION, [{"id": PROJECT, "name": REGION}]), ("eu-west-0", [])):
        headers = sign("GET", "/v3/projects", [("name", name)], {"X-Sdk-Date": stamp()})
        response = await smn_client.get("/v3/projects", params={"name": name}, headers=headers)
        assert (response.status, (await response.json())["projects"]) == (200, found)
    assert (await smn_client.get("/v3/projects", params={"name": REGION})).status == 401


async def test_an_open_project_gives_a_token_to_anybody(client: Client) -> None:
    """An open project gives a token to anybody, so that an SDK can be tried against it."""
    response = await client.post("/v3/auth/tokens", json=asking("whatever", name="local"))
    assert response.status == 201
    assert await routes(client, response.headers["X-Subject-Token"], "default") == 200
    response = await client.get("/v3/projects", params={"name": "local"})
    assert (await response.json())["projects"] == [{"id": "default", "name": "local"}]


async def test_invented_users_cost_nothing(client: Client) -> None:
    """An open project takes any name: no scrypt, whose threads read large callbacks, and nothing is kept."""
    before = workers()
    for number in range(50):
        response = await client.post("/v3/auth/tokens", json=asking("x", f"invented-{number}", name="local"))
        assert response.status == 201
    headers = {"X-Auth-Token": response.headers["X-Subject-Token"]}
    found = await (await client.get("/v3/projects", headers=headers)).json()
    assert found["projects"] == [{"id": "default", "name": "local"}]
    assert workers() == before


async def test_a_token_of_an_open_project_opens_no_other() -> None:
    """Everybody knows the key that it is made with."""
    open_, closed = Project(id="o"), Project(id="c", users={"u": "secret"})
    tokens = Tokens(Projects({"o": open_, "c": closed}))
    now = time.time()
    text = (await tokens.issue(open_, "u", now)).text
    assert await tokens.owner(text, now) == (open_, "u")
    claims = json.dumps(["c", "u", int((now + LIFETIME) * 1e6)], separators=(",", ":")).encode()
    forged = f"{claims.hex()}.{hmac.digest(b'open', claims, 'sha256').hex()}"
    assert await tokens.owner(forged, now) is None


async def test_tokens_asked_for_at_once_share_the_work() -> None:
    """Forged tokens of a user that there is cost one scrypt in all, not one each."""
    project = Project(id="p", users={"u": "secret"})
    tokens = Tokens(Projects({"p": project}))
    now, before = time.time(), workers()
    issued = await asyncio.gather(*(tokens.issue(project, "u", now) for _ in range(20)))
    assert len({token.text for token in issued}) == 1
    assert len(workers() - before) == 1


async def test_a_token_is_good_on_every_replica_until_the_password_changes() -> None:
    """A token is good for 24 hours on every replica, until the password changes."""
    project = Project(id="p", users={"u": "secret", "v": "secret"})
    here, there = Tokens(Projects({"p": project})), Tokens(Projects({"p": project}))
    now = time.time()
    token = await here.issue(project, "u", now)
    assert token.expires == pytest.approx(now + LIFETIME, abs=0.001)
    assert await there.owner(token.text, now + LIFETIME - 1) == (project, "u")
    assert await there.owner(token.text, now + LIFETIME + 1) is None
    for users in ({"u": "changed"}, {}, {"v": "secret"}):
        changed = Tokens(Projects({"p": Project(id="p", users=users)}))
        assert await changed.owner(token.text, now) is None
    other = Tokens(Projects({"q": Project(id="q", users={"u": "secret"})}))
    assert await other.owner(token.text, now) is None


async def test_forged_tokens_open_nothing() -> None:
    """A token whose claims were changed is none, although its form is right."""
    project = Project(id="p", users={"u": "secret"})
    tokens = Tokens(Projects({"p": project}))
    now = time.time()
    claims, _, signature = (await tokens.issue(project, "u", now)).text.partition(".")
    later = json.dumps(["p", "u", int((now + 10 * LIFETIME) * 1e6)]).encode().hex()
    for text in (f"{later}.{signature}", f"{claims}.", claims, f"{claims}.{'0' * 64}", "é.é", "5b.5b"):
        assert await tokens.owner(text, now) is None
