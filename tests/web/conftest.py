"""Fixtures for SMN's API: a service with two projects, and clients for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from signers import SMS, TOML

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.test_utils import TestClient
    from conftest import Service

    Client = TestClient[web.Request, web.Application]


class Smn:
    """Calls SMN's API of the first project with its static token."""

    def __init__(self, client: Client) -> None:
        """Keep the client."""
        self.client = client

    async def __call__(self, method: str, path: str, **options: object) -> tuple[int, dict[str, object]]:
        """Return the status and the body of an answer, without its ``request_id``."""
        headers = {"X-Auth-Token": "static-token", "Content-Type": "application/json; charset=UTF-8"}
        response = await self.client.request(method, SMS + path, headers=headers, **options)
        body = await response.json()
        assert response.headers["X-Request-Id"] == body.pop("request_id")
        return response.status, body


@pytest.fixture
async def smn(service: Service) -> Smn:
    """Return how to call SMN's API of a service with two projects."""
    return Smn(await service(TOML))
