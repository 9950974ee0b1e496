"""What providers have the service fetch: certificates of signatures, and the URLs that confirm a subscription.

A provider names the URL and has checked its host. Here it is fetched: over https only, without redirects, never from
an address that is not public, within a time limit, and no more than a certificate needs.
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

#: Seconds for a fetch, connecting included. SMN gives up on an answer after 5 s.
TIMEOUT: Final = 3.0
#: Bytes of an answer. A certificate with its chain has 2 to 8 KiB.
MAX_ANSWER: Final = 64 << 10
_PEM: Final = b"-----BEGIN CERTIFICATE-----"
#: Certificates that are kept. A provider has one, and a second one while it changes.
MAX_CERTIFICATES: Final = 64
#: Seconds in which a URL that failed is not fetched again: a stranger can make us fetch it.
PAUSE_AFTER_FAILURE: Final = 5.0


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only, so that nobody reaches our own network through us."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = 0,  # type: ignore[assignment]  # aiohttp's own default
    ) -> list[ResolveResult]:
        """Return the public addresses of a host. Raises OSError when it has none."""
        found = await self._resolver.resolve(host, port, family)
        public = [one for one in found if ip_address(one["host"]).is_global]
        if not public:
            raise OSError(None, f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Close the system's resolver."""
        await self._resolver.close()


class Fetcher:
    """Fetches for providers. Every failure is an UnverifiableError: the provider is asked to send again."""

    def __init__(self, proxy: str | None, logger: Logger, *, timeout: float = TIMEOUT) -> None:
        """Take the URL of the proxy that all fetches go through, if there is one; it then resolves the names."""
        self._proxy = proxy
        self._timeout = timeout
        self._logger = logger
        self._session: aiohttp.ClientSession | None = None
        self._certificates: OrderedDict[str, bytes] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[bytes]] = {}
        self._failed_at: OrderedDict[str, float] = OrderedDict()

    async def certificate(self, url: str) -> bytes:
        """Return a certificate, from memory if it was fetched before: a provider gives a new one a new name."""
        known = self._certificates.get(url)
        if known is not None:
            return known
        task = self._under_way.get(url)
        if task is None:  # one fetch for all requests that wait for it
            task = asyncio.create_task(self._fetch(url), name="fetch certificate")
            self._under_way[url] = task
            task.add_done_callback(lambda _: self._under_way.pop(url, None))
        certificate = await asyncio.shield(task)
        if _PEM not in certificate:  # an error page, for example: it must not be kept
            raise self._failed(url, f"{urlsplit(url).hostname} answered something that is no certificate")
        self._certificates[url] = certificate
        if len(self._certificates) > MAX_CERTIFICATES:
            self._certificates.popitem(last=False)
        return certificate

    async def confirm(self, url: str) -> None:
        """Fetch the URL that confirms a subscription."""
        await self._fetch(url)
        self._logger.info("subscription.confirmed", host=urlsplit(url).hostname)

    async def close(self) -> None:
        """Give up what is under way, and close the connections."""
        for task in list(self._under_way.values()):
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
        except (aiohttp.ClientError, OSError) as error:  # a time-out is an OSError
            raise self._failed(url, f"{host} did not answer: {error or type(error).__name__}") from None
        if response.status != 200:  # noqa: PLR2004 the code itself
            raise self._failed(url, f"{host} answered HTTP {response.status}")
        if len(answer) > MAX_ANSWER:
            raise self._failed(url, f"{host} answered more than {MAX_ANSWER} bytes")
        return answer

    def _checked(self, url: str) -> str:
        """Return the host of a URL that may be fetched now. Raises UnverifiableError."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or _is_address(host):
            raise UnverifiableError(f"{host} is not fetched from: only https and names of hosts are")
        if asyncio.get_running_loop().time() - self._failed_at.get(url, -PAUSE_AFTER_FAILURE) < PAUSE_AFTER_FAILURE:
            raise UnverifiableError(f"{host} did not answer a moment ago; send again later")
        return host

    def _failed(self, url: str, reason: str) -> UnverifiableError:
        self._failed_at[url] = asyncio.get_running_loop().time()
        if len(self._failed_at) > MAX_CERTIFICATES:
            self._failed_at.popitem(last=False)
        self._logger.warning("fetch.failed", reason=reason)
        return UnverifiableError(f"{reason}; send again later")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            options: dict[str, Any] = {} if self._proxy else {"resolver": PublicResolver()}
            # Made here, not when aiohttp is imported: SSL_CERT_FILE names the authorities of one's own proxy.
            trust = ssl.create_default_context()
            connector = aiohttp.TCPConnector(limit=8, ttl_dns_cache=60, ssl=trust, **options)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or its beginning when it is longer than MAX_ANSWER."""
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
