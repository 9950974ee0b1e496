"""A forward proxy that is every https host at once: it answers CONNECT, and then speaks TLS as whoever was asked for.

Its authority is made for the test. A client trusts it through ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Self

import trustme

if TYPE_CHECKING:
    from pathlib import Path

#: A page: status, body and seconds to wait before the answer.
Page = tuple[int, bytes, float]


class HttpsProxy:
    """Serves ``pages`` by URL. ``requested`` holds the URLs that were asked for."""

    def __init__(self, folder: Path) -> None:
        """Make an authority, whose certificate lies in ``certificates``."""
        self._authority = trustme.CA()
        self.certificates = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.certificates)
        self.pages: dict[str, Page] = {}
        self.requested: list[str] = []

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        host = target.rpartition(":")[0]
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(context)
        await writer.start_tls(context)
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        url = f"https://{host}{path}"
        self.requested.append(url)
        status, body, delay = self.pages.get(url, (404, b"", 0.0))
        await asyncio.sleep(delay)
        location = b"Location: https://elsewhere.example/\r\n" if status in (301, 302) else b""
        head = b"HTTP/1.1 %d x\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, location, len(body))
        writer.write(head + body)
        await writer.drain()
        writer.close()
