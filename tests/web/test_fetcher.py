"""What providers have the service fetch, over real TLS through a real proxy."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from https_proxy import HttpsProxy

from receiver.errors import UnverifiableError
from receiver.web.fetcher import MAX_ANSWER, MAX_CERTIFICATES, Fetcher, PublicResolver

PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
URL = "https://sns.us-east-1.amazonaws.com/certificate.pem"


@pytest.fixture
async def proxy(tmp_path, monkeypatch):
    """Return a proxy whose authority this process trusts."""
    async with HttpsProxy(tmp_path) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificates))
        yield proxy


@pytest.fixture
async def fetcher(proxy):
    """Return a fetcher that goes through the proxy."""
    fetcher = Fetcher(proxy.url, structlog.stdlib.get_logger())
    yield fetcher
    await fetcher.close()


async def test_a_certificate_is_fetched_once(proxy, fetcher):
    proxy.pages[URL] = (200, PEM, 0)
    assert [await fetcher.certificate(URL) for _ in range(3)] == [PEM] * 3
    assert proxy.requested == [URL]


async def test_requests_that_wait_for_the_same_certificate_share_a_fetch(proxy, fetcher):
    proxy.pages[URL] = (200, PEM, 0.1)
    assert await asyncio.gather(*(fetcher.certificate(URL) for _ in range(20))) == [PEM] * 20
    assert proxy.requested == [URL]


async def test_a_request_that_goes_away_does_not_take_the_fetch_from_the_others(proxy, fetcher):
    proxy.pages[URL] = (200, PEM, 0.2)
    first, second = (asyncio.create_task(fetcher.certificate(URL)) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second == PEM


async def test_old_certificates_make_room_for_new_ones(proxy, fetcher):
    urls = [f"https://host.example/{number}.pem" for number in range(MAX_CERTIFICATES + 1)]
    proxy.pages |= dict.fromkeys(urls, (200, PEM, 0))
    for url in (*urls, urls[0]):
        await fetcher.certificate(url)
    assert proxy.requested.count(urls[0]) == 2


@pytest.mark.parametrize("url", ["http://host.example/x", "https://127.0.0.1/x", "https://[::1]/x", "https:///x", "x"])
async def test_only_https_and_names_of_hosts_are_fetched_from(proxy, fetcher, url):
    with pytest.raises(UnverifiableError, match="only https"):
        await fetcher.certificate(url)
    assert not proxy.requested


@pytest.mark.parametrize("status", [301, 302, 404, 500])
async def test_no_redirect_is_followed_and_only_200_counts(proxy, fetcher, status):
    proxy.pages[URL] = (status, b"", 0)
    with pytest.raises(UnverifiableError, match=f"HTTP {status}"):
        await fetcher.certificate(URL)
    assert proxy.requested == [URL]


async def test_a_url_that_failed_is_left_alone_for_a_moment(proxy, fetcher):
    for _ in range(5):
        with pytest.raises(UnverifiableError):
            await fetcher.certificate(URL)
    assert proxy.requested == [URL]


async def test_an_answer_that_is_too_long_is_refused(proxy, fetcher):
    proxy.pages[URL] = (200, b"x" * (MAX_ANSWER + 1), 0)
    with pytest.raises(UnverifiableError, match="more than"):
        await fetcher.certificate(URL)


async def test_what_is_no_certificate_is_not_kept(proxy, fetcher):
    proxy.pages[URL] = (200, b"<html>try later</html>", 0)
    with pytest.raises(UnverifiableError, match="did not return a certificate"):
        await fetcher.certificate(URL)


async def test_a_host_that_answers_slowly_is_given_up(proxy):
    fetcher = Fetcher(proxy.url, structlog.stdlib.get_logger(), timeout=0.1)
    proxy.pages[URL] = (200, PEM, 1)
    with pytest.raises(UnverifiableError, match="did not answer"):
        await fetcher.certificate(URL)
    await fetcher.close()


async def test_what_the_proxy_refuses_tells_nobody_its_password(proxy):
    """The reason of the error is the body of the answer to a callback."""

    async def refuse(_reader, writer):
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        fetcher = Fetcher(f"http://bob:hunter2@127.0.0.1:{port}", structlog.stdlib.get_logger())
        with pytest.raises(UnverifiableError, match=r"did not answer \(ClientHttpProxyError\)") as refused:
            await fetcher.certificate(URL)
        await fetcher.close()
    assert "hunter2" not in str(refused.value)
    assert str(port) not in str(refused.value)


async def test_a_certificate_of_an_unknown_authority_is_refused(proxy, monkeypatch, tmp_path):
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(HttpsProxy(tmp_path / "other").certificates))
    proxy.pages[URL] = (200, PEM, 0)
    fetcher = Fetcher(proxy.url, structlog.stdlib.get_logger())
    with pytest.raises(UnverifiableError):
        await fetcher.certificate(URL)
    await fetcher.close()


async def test_a_confirmation_is_fetched_each_time(proxy, fetcher):
    proxy.pages[URL] = (200, b"", 0)
    await fetcher.confirm(URL)
    await fetcher.confirm(URL)
    assert proxy.requested == [URL, URL]


async def test_names_of_our_own_network_resolve_to_nothing():
    resolver = PublicResolver()
    with pytest.raises(OSError, match="no public address"):
        await resolver.resolve("localhost", 443)
    await resolver.close()
