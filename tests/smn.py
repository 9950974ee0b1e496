"""SMN's API as tests call it: a configuration with two projects, and calls with the first one's token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Client

ACCESS_KEY = "AKEXAMPLE"
SECRET_KEY = "the-secret-of-AKEXAMPLE"
PROJECT = "f96188c7ccaf4ffba0c9aa149ab2bd57"
OTHER = "0000000000000000000000000000000b"
REGION = "cn-north-4"
SMS = f"/v2/{PROJECT}/notifications/sms"

TOML = f"""
region = "{REGION}"

[projects.{PROJECT}]
default = true
callback_keys = ["callback-key"]
tokens = ["static-token"]
sign_id = "6be340e91e5241e4b5d85837e6709104"

[projects.{PROJECT}.access_keys]
{ACCESS_KEY} = "{SECRET_KEY}"

[projects.{PROJECT}.users]
lookup = "pass-of-lookup"

[projects.{OTHER}]
region = "eu-west-0"
tokens = ["token-of-the-other"]

[projects.{OTHER}.access_keys]
AKOTHER = "the-secret-of-AKOTHER"

[projects.{OTHER}.users]
lookup = "another-password"
"""


class Smn:
    """Calls SMN's API of the first project with its static token."""

    def __init__(self, client: Client) -> None:
        """Keep the client."""
        self.client = client

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of an answer, without its ``request_id``."""
        headers = {"X-Auth-Token": "static-token", "Content-Type": "application/json; charset=UTF-8"}
        response = await self.client.request(method, SMS + path, headers=headers, **options)
        body = await response.json()
        assert response.headers["X-Request-Id"] == body.pop("request_id")
        return response.status, body
