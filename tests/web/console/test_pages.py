"""The console and the documents in a browser: they work, by keyboard alone, at any size, and load nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from messages import body, reply, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser import Browser, Page
    from conftest import Client, Service
    from servers import Receiver

TOML = """
[projects.shop]
default = true
tokens = ["token-of-shop"]
callback_keys = ["key-of-shop"]
consumer_groups = ["billing"]

[projects.shop.users]
anna = "pass-of-anna"

[projects.bank]
tokens = ["another-token", "token-of-shop"]
callback_keys = ["key-of-shop"]
"""
LIVE = "document.getElementById('status').dataset.state === 'live'"
EVENTS = "document.getElementById('events')"
FOCUS = "document.activeElement.id"
NO_WIDER = "document.documentElement.scrollWidth <= innerWidth"


def assert_clean(page: Page, client: Client) -> None:
    """Nothing was requested from another host, nothing broke the policy, and no script failed."""
    assert page.problems == []
    assert {urlsplit(url).netloc for url in page.urls} == {f"127.0.0.1:{client.port}"}


async def post(client: Client, *items: object) -> None:
    """Post items, each in a callback of its own."""
    for item in items:
        assert (await client.post("/sms/callback?key=key-of-shop", data=body(item))).status == 200


async def test_who_has_signed_in_sees_a_callback_come(service: Service, browser: Browser) -> None:
    """A callback shows up by itself, with its number masked and without its text."""
    client = await service(TOML)
    page = await browser.page()
    await page.open(str(client.make_url("/console")))
    await page.until(f"{FOCUS} === 'login-token'")
    await page.type("token-of-shop")
    await page.press("Enter")
    await page.until(LIVE)
    await post(client, [report("5000:1")], reply("a person's text"))
    text = await page.until(f"{EVENTS}.rows.length === 2 && document.body.innerText")
    assert "138****8000" in text
    assert "5000:1" in text
    assert "13800138000" not in text
    assert "a person's text" not in text
    await page.until("document.getElementById('key-success').textContent === '100 %'")
    await page.until("document.getElementById('groups').textContent.includes('billing')")
    await page.press("/")
    await page.type("5000:1")
    await page.press("Enter")
    found = await page.until("document.querySelector('dialog[open] article')?.innerText")
    assert "published" in found.lower()
    assert "138****8000" in found
    assert "token-of-shop" not in await page.value("document.cookie + location.href")
    mask = "import('./static/format.js').then((format) => format.maskAll({}))"
    shown = await page.value(mask.format("'as entry 1795258820220-0, to +86 138 0013 8000 on 2026-11-26 08:00:00'"))
    assert shown == "as entry 1795258820220-0, to +86****8000 on 2026-11-26 08:00:00"
    assert_clean(page, client)


async def test_the_keyboard_alone_is_enough(service: Service, browser: Browser) -> None:
    """Sign in as a user, skip to the figures, pause, choose the other project, find, and sign out."""
    client = await service(TOML)
    page = await browser.page()
    await page.open(str(client.make_url("/console")))
    await page.until(f"{FOCUS} === 'login-token'")
    await page.press("Tab", modifiers=8)
    await page.press("ArrowRight")
    await page.press("Tab")
    await page.type("anna")
    await page.press("Tab")
    await page.type("pass-of-anna")
    await page.press("Enter")
    await page.until(LIVE)
    assert await page.value(FOCUS) == "main"
    await page.open(str(client.make_url("/console")))  # still signed in
    await page.until(LIVE)
    await page.press("Tab")
    assert await page.value("document.activeElement.className") == "skip"
    assert await page.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    await page.press("Enter")
    assert await page.value(FOCUS) == "main"
    while await page.value(FOCUS) != "pause":
        await page.press("Tab")
    await page.press(" ")
    assert await page.value("document.activeElement.getAttribute('aria-pressed')") == "true"
    await post(client, [report("5000:1")])
    await page.until("document.getElementById('events-about').textContent === 'paused, 1 new'")
    assert await page.value(f"{EVENTS}.rows.length") == 0
    await page.press(" ")
    await page.until(f"{EVENTS}.rows.length === 1")
    await page.press("Tab")
    await page.press("ArrowDown")
    await page.press("Enter")
    await page.until("!!document.querySelector('dialog[open] article')")
    await page.press("Escape")
    await page.until("!document.querySelector('dialog[open]')")
    assert await page.value("document.activeElement.textContent") == "5000:1"
    await page.press("/")
    assert await page.value(FOCUS) == "find-input"
    while await page.value(FOCUS) != "sign":
        await page.press("Tab")
    await page.press("Enter")
    await page.until(f"{FOCUS} === 'login-token'")
    assert await page.value("sessionStorage.length") == 0
    assert_clean(page, client)


async def test_wrong_credentials_and_a_revoked_token(service: Service, browser: Browser) -> None:
    """Both are told beside the form, and nothing is kept."""
    client = await service(TOML)
    page = await browser.page()
    await page.open(str(client.make_url("/console")))
    await page.until(f"{FOCUS} === 'login-token'")
    await page.type("wrong")
    await page.press("Enter")
    await page.until("document.getElementById('login-error').textContent.includes('decrypt token fail')")
    await page.value("sessionStorage.setItem('receiver.token', 'revoked')")
    await page.open(str(client.make_url("/console")))
    await page.until("document.getElementById('login-error').textContent.includes('decrypt token fail')")
    assert await page.value("sessionStorage.length") == 0


async def test_an_open_project_needs_no_sign_in(client: Client, browser: Browser) -> None:
    """As its lookups need no credentials; a name that is not local gets the reason."""
    page = await browser.page()
    await page.open(str(client.make_url("/console")))
    await page.until(LIVE)
    assert_clean(page, client)


async def test_the_page_comes_back_with_the_service(serve: Callable[..., Receiver], browser: Browser) -> None:
    """It says so meanwhile, and keeps what it has shown."""
    service = serve()
    page = await browser.page()
    await page.open(f"{service.url}/console")
    await page.until(LIVE)
    assert service.post(body([report("5000:1")]))[0] == 200
    await page.until(f"{EVENTS}.rows.length === 1")
    service.kill()
    await page.until("document.getElementById('status').textContent === 'Reconnecting'")
    assert await page.value(f"{EVENTS}.rows.length") == 1
    again = serve(PORT=str(service.port))
    await page.until(LIVE)
    assert again.post(body([report("5000:2")]))[0] == 200
    await page.until(f"{EVENTS}.rows.length === 2")


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1440, True)])
async def test_pages_fit_the_screen(client: Client, browser: Browser, width: int, dark: bool) -> None:  # noqa: FBT001
    """Nothing is wider than the screen, and dark is dark."""
    await client.post("/sms/callback", data=body([report("1:" + "7" * 120), report("bad" * 40, mobile=None)]))
    page = await browser.page(width, 844, dark=dark)
    for path, shown in (("/console", f"{LIVE} && {EVENTS}.rows.length === 2"), ("/docs", "true")):
        await page.open(str(client.make_url(path)))
        await page.until(shown)
        assert await page.value(NO_WIDER), path
        channels = await page.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(channels) < 128) == dark, path
    assert_clean(page, client)


async def test_the_page_does_not_grow(client: Client, browser: Browser) -> None:
    """The list of events has 50 rows, however many come."""
    page = await browser.page()
    await page.open(str(client.make_url("/console")))
    await page.until(LIVE)
    for burst in range(3):
        await client.post("/sms/callback", data=body([report(f"{burst}:{number}") for number in range(300)]))
        last = f"{burst}:299"
        await page.until(f"{EVENTS}.rows[0]?.textContent.includes('{last}')")
    assert await page.value(f"{EVENTS}.rows.length") <= 50
    assert_clean(page, client)


async def test_beside_an_open_project_one_can_sign_in_to_another(service: Service, browser: Browser) -> None:
    """And back. A project in the URL that is none is no obstacle."""
    client = await service('[projects.open]\n[projects.shop]\ntokens = ["token-of-shop"]\n')
    page = await browser.page()
    await page.open(f"{client.make_url('/console')}#%")
    await page.until(LIVE)
    await page.value("document.getElementById('sign').click()")
    await page.until(f"{FOCUS} === 'login-token'")
    await page.type("token-of-shop")
    await page.press("Enter")
    await page.until(f"{LIVE} && document.getElementById('project').value === 'shop'")
    assert await page.value("document.getElementById('sign').textContent") == "Sign out"
    await page.value("document.getElementById('sign').click()")
    await page.until(f"{FOCUS} === 'login-token'")
    assert await page.value("sessionStorage.length") == 0
    await page.value("document.getElementById('login-open').click()")
    await page.until(f"{LIVE} && document.getElementById('project').value === 'open'")
    assert_clean(page, client)


async def test_the_token_outlives_a_service_that_does_not_answer(service: Service, browser: Browser) -> None:
    """The page says so and tries again; why it does not connect is there to read, not in a tooltip."""
    client = await service(TOML)
    page = await browser.page(390, 844)
    await page.open(str(client.make_url("/console")))
    await page.value("sessionStorage.setItem('receiver.token', 'token-of-shop')")
    await page.call("Network.setBlockedURLs", urls=["*/v3/projects*"])
    await page.open(str(client.make_url("/console")))
    await page.until("document.getElementById('login-wait').textContent.includes('does not answer')")
    await page.call("Network.setBlockedURLs", urls=["*/console/events"])
    await page.until("document.getElementById('status-reason').innerText === 'The service does not answer.'")
    assert await page.value(NO_WIDER)
    await page.call("Network.setBlockedURLs", urls=[])
    await page.until(LIVE)
    assert await page.value("document.getElementById('status-reason').innerText") == ""
