"""A headless Chromium for tests, driven over the DevTools protocol with aiohttp's WebSocket client.

https://chromedevtools.github.io/devtools-protocol/. Each page has a browser context of its own: nothing is shared.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from servers import Child, eventually

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds for a page to do what a test waits for. A busy machine takes some for a browser to start.
PATIENCE = 30.0
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40, " ": 32}


def chromium() -> str | None:
    """Return the path of Chromium; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class ChromiumProcess(Child):
    """The browser as a process. It listens on a loopback port of its choice."""

    def __init__(self, binary: str, folder: Path) -> None:
        """Start it, with its profile in the folder."""
        options = [
            "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-gpu",
            "--disable-dev-shm-usage", "--lang=en-US", *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank",
        ]  # fmt: skip
        super().__init__([binary, *options], folder / "chromium.log", {**os.environ, "TZ": "UTC"})
        port = folder / "DevToolsActivePort"
        eventually(lambda: port.exists() and port.read_text().count("\n"), "Chromium listens", 40)
        number, path = port.read_text().splitlines()
        self.socket = f"ws://127.0.0.1:{number}{path}"


class Browser:
    """A connection to the browser. It is a context manager."""

    def __init__(self, socket: str) -> None:
        self._url = socket
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    async def __aenter__(self) -> Self:
        """Connect."""
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(self._url, max_msg_size=0)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pages and the connection."""
        for page in list(self._pages.values()):
            await self.call("Target.disposeBrowserContext", browserContextId=page.context)
        self._reading.cancel()
        await self._http.close()

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message if session is None else {**message, "sessionId": session})
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def page(self, width: int = 1440, height: int = 900, *, dark: bool = False) -> Page:
        """Return a new page of a size in pixels, in a context of its own."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"], context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await page.call("Emulation.setEmulatedMedia", features=scheme)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await page.call("Emulation.setDeviceMetricsOverride", **metrics)
        return page

    async def _read(self) -> None:
        async for message in self._socket:
            content = json.loads(message.data)
            if "id" not in content:
                page = self._pages.get(content.get("sessionId", ""))
                if page is not None:
                    page.note(content["method"], content["params"])
            elif (answer := self._answers.pop(content["id"])) and not answer.done():
                if "error" in content:
                    answer.set_exception(AssertionError(content["error"]["message"]))
                else:
                    answer.set_result(content["result"])


class Page:
    """A page. ``problems`` are errors of scripts, of the console and of the policy; ``urls`` what was requested."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self.context = context
        self.problems: list[str] = []
        self.urls: list[str] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol for this page."""
        return await self._browser.call(method, self._session, **parameters)

    def note(self, method: str, parameters: Any) -> None:
        """Keep what the page did."""
        if method == "Network.requestWillBeSent":
            self.urls.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:2000])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(parameters["args"])[:2000])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(parameters["entry"])[:2000])

    async def open(self, url: str) -> None:
        """Go to a URL."""
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, a promise included."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + PATIENCE
        while not (value := await self.value(expression)):
            if time.monotonic() > end:
                shown = await self.value("document.body.innerText")
                raise AssertionError(f"{expression}: not within {PATIENCE:g} s; {self.problems}; {shown[-2000:]}")
            await asyncio.sleep(0.02)
        return value

    async def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key. ``modifiers``: 8 is Shift."""
        code = _KEYS.get(key, ord(key[0]))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **about)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    async def type(self, text: str) -> None:
        """Type a text."""
        await self.call("Input.insertText", text=text)

    async def picture(self, *, whole: bool = True) -> bytes:
        """Return a picture of the page, or of what is in view, as PNG."""
        clip = {}
        if whole:
            size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        picture = await self.call("Page.captureScreenshot", captureBeyondViewport=whole, **clip)
        return base64.b64decode(picture["data"])
