"""Serves ``/openapi.json``, ``/asyncapi.json`` and ``/docs``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiohttp import web

from receiver.providers.base import JSON
from receiver.web.documents import asyncapi, openapi, page
from receiver.web.static_files import PAGE_HEADERS, StaticFile

if TYPE_CHECKING:
    from receiver.web.documents.curl import Bases


class _Built(NamedTuple):
    openapi: bytes
    asyncapi: bytes
    page: StaticFile


class Documents:
    """Builds the documents on first use, in a thread, and keeps them: they do not change while the service runs."""

    def __init__(self, bases: Bases) -> None:
        """``bases`` are the URLs in the page's command lines."""
        self._bases = bases
        self._building: asyncio.Task[_Built] | None = None

    async def openapi(self, _request: web.Request) -> web.Response:
        """Answer the OpenAPI document."""
        return web.Response(body=(await self._built()).openapi, content_type=JSON)

    async def asyncapi(self, _request: web.Request) -> web.Response:
        """Answer the AsyncAPI document."""
        return web.Response(body=(await self._built()).asyncapi, content_type=JSON)

    async def docs(self, request: web.Request) -> web.Response:
        """Answer the HTML page of both."""
        return (await self._built()).page.answer(request)

    async def _built(self) -> _Built:
        if self._building is None:
            self._building = asyncio.create_task(asyncio.to_thread(self._build), name="documents")
        return await asyncio.shield(self._building)

    def _build(self) -> _Built:
        document = openapi.document()
        html = page.page(document, asyncapi.document(), self._bases)
        return _Built(
            msgspec.json.encode(document),
            asyncapi.text().encode(),
            StaticFile(html.encode(), "text/html", PAGE_HEADERS),
        )
