"""Fetches URLs for providers: certificates of signatures, and confirmations of subscriptions.

The provider has checked the URL's host. A fetch uses https, follows no redirect, contacts only public addresses, and is
limited in time and size.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from receiver.errors import UnverifiableError

if TYPE_CHECKING:
    import socket

    from receiver.log import Logger

#: Seconds for a fetch, connecting included. SMN times out after 5 s.
TIMEOUT: Final = 3.0
#: Bytes of a response. A certificate with its chain has 2 to 8 KiB.
MAX_ANSWER: Final = 64 << 10
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
#: Certificates in the cache. A provider has one, and two while it replaces it.
MAX_CERTIFICATES: Final = 64
#: Seconds before a failed URL is fetched again: unauthenticated requests can trigger fetches.
PAUSE_AFTER_FAILURE: Final = 5.0


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only, so that requests cannot reach internal hosts (SSRF)."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = 0,  # type: ignore[assignment]  # aiohttp's own default
    ) -> list[ResolveResult]:
        """Return the public addresses of a host. Raises OSError if it has none."""
        found = await self._resolver.resolve(host, port, family)
        public = [one for one in found if ip_address(one["host"]).is_global]
        if not public:
            raise OSError(None, f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Close the system's resolver."""
        await self._resolver.close()


class Fetcher:
    """Fetches URLs for providers. Every failure is an UnverifiableError, which makes the provider retry."""

    def __init__(self, proxy: str | None, logger: Logger, *, timeout: float = TIMEOUT) -> None:
        """``proxy`` is the URL of a proxy for all fetches, which then resolves the names. ``timeout`` is in seconds."""
        self._proxy = proxy
        self._timeout = timeout
        self._logger = logger
        self._session: aiohttp.ClientSession | None = None
        self._certificates: OrderedDict[str, bytes] = OrderedDict()
        self._running: dict[str, asyncio.Task[bytes]] = {}
        self._failed_at: OrderedDict[str, float] = OrderedDict()

    async def certificate(self, url: str) -> bytes:
        """Return a certificate in PEM. It is cached for good: a provider gives a new certificate a new URL."""
        cached = self._certificates.get(url)
        if cached is not None:
            return cached
        task = self._running.get(url)
        if task is None:  # all requests for this URL share one fetch
            task = asyncio.create_task(self._fetch(url), name="fetch certificate")
            self._running[url] = task
            task.add_done_callback(lambda _: self._running.pop(url, None))
        certificate = await asyncio.shield(task)
        if _PEM not in certificate:  # an error page, for example: it must not be cached
            raise self._failed(url, f"{urlsplit(url).hostname} did not return a certificate")
        self._certificates[url] = certificate
        if len(self._certificates) > MAX_CERTIFICATES:
            self._certificates.popitem(last=False)
        return certificate

    async def confirm(self, url: str) -> None:
        """Fetch the URL that confirms a subscription."""
        await self._fetch(url)
        self._logger.info("subscription.confirmed", host=urlsplit(url).hostname)

    async def close(self) -> None:
        """Cancel running fetches, and close the connections."""
        for task in list(self._running.values()):
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def _fetch(self, url: str) -> bytes:
        host = self._checked(url)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._open_session().get(url, allow_redirects=False, proxy=self._proxy) as response,
            ):
                answer = await _read(response)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # Only the log has the message, masked: it may name our proxy with its password. Strangers get the answer.
            raise self._failed(url, f"{host} did not answer ({type(error).__name__})", error) from None
        if response.status != 200:  # noqa: PLR2004 the code itself
            raise self._failed(url, f"{host} answered HTTP {response.status}")
        if len(answer) > MAX_ANSWER:
            raise self._failed(url, f"{host} answered with more than {MAX_ANSWER} bytes")
        return answer

    def _checked(self, url: str) -> str:
        """Return the URL's host. Raises UnverifiableError if the URL must not be fetched now."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or _is_address(host):
            raise UnverifiableError(f"cannot fetch from {host}: only https and host names are allowed")
        if asyncio.get_running_loop().time() - self._failed_at.get(url, -PAUSE_AFTER_FAILURE) < PAUSE_AFTER_FAILURE:
            raise UnverifiableError(f"the last fetch from {host} failed a moment ago; send again later")
        return host

    def _failed(self, url: str, reason: str, error: Exception | None = None) -> UnverifiableError:
        self._failed_at[url] = asyncio.get_running_loop().time()
        self._failed_at.move_to_end(url)
        if len(self._failed_at) > MAX_CERTIFICATES:
            self._failed_at.popitem(last=False)
        self._logger.warning("fetch.failed", reason=reason, **({} if error is None else {"error": str(error)}))
        return UnverifiableError(f"{reason}; send again later")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            options: dict[str, Any] = {} if self._proxy else {"resolver": PublicResolver()}
            # Created here, not when aiohttp is imported: SSL_CERT_FILE may name the authority of the operator's proxy.
            trust = ssl.create_default_context()
            connector = aiohttp.TCPConnector(limit=8, ttl_dns_cache=60, ssl=trust, **options)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, cut off after MAX_ANSWER bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            break
    return bytes(body)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return not host
    return True
