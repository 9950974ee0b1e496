"""Serves ``/openapi.json``, ``/asyncapi.json`` and ``/docs``."""

from __future__ import annotations

from functools import cached_property

import msgspec
from aiohttp import web

from receiver.providers.base import JSON
from receiver.web.documents import asyncapi, openapi, page
from receiver.web.static_files import PAGE_HEADERS, StaticFile


class Documents:
    """Renders each document on first use, and caches it: it does not change while the service runs."""

    async def openapi(self, _request: web.Request) -> web.Response:
        """Answer the OpenAPI document."""
        return web.Response(body=self._openapi, content_type=JSON)

    async def asyncapi(self, _request: web.Request) -> web.Response:
        """Answer the AsyncAPI document."""
        return web.Response(body=self._asyncapi, content_type=JSON)

    async def docs(self, request: web.Request) -> web.Response:
        """Answer the HTML page of both."""
        return self._page.answer(request)

    @cached_property
    def _openapi(self) -> bytes:
        return msgspec.json.encode(openapi.document())

    @cached_property
    def _asyncapi(self) -> bytes:
        return asyncapi.text().encode()

    @cached_property
    def _page(self) -> StaticFile:
        return StaticFile(page.page(openapi.document(), asyncapi.document()).encode(), "text/html", PAGE_HEADERS)
