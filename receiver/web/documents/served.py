"""Serves ``/openapi.json``, ``/asyncapi.json`` and ``/docs``."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web

from receiver.providers.base import JSON
from receiver.web.documents import asyncapi, openapi, page

#: The page has no script and loads nothing. Browsers enforce it.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class Documents:
    """Renders each document on first use, and caches it: it does not change while the service runs."""

    async def openapi(self, _request: web.Request) -> web.Response:
        """Answer the OpenAPI document."""
        return web.Response(body=self._openapi, content_type=JSON)

    async def asyncapi(self, _request: web.Request) -> web.Response:
        """Answer the AsyncAPI document."""
        return web.Response(body=self._asyncapi, content_type=JSON)

    async def docs(self, _request: web.Request) -> web.Response:
        """Answer the HTML page of both."""
        return web.Response(text=self._page, content_type="text/html", headers={"Content-Security-Policy": _POLICY})

    @cached_property
    def _openapi(self) -> bytes:
        return msgspec.json.encode(openapi.document())

    @cached_property
    def _asyncapi(self) -> bytes:
        return asyncapi.text().encode()

    @cached_property
    def _page(self) -> str:
        return page.page(openapi.document(), asyncapi.document())
