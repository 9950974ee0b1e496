"""A browser for the tests of web pages: one for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import Browser, ChromiumProcess, chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def chromium_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromiumProcess]:
    """Start Chromium."""
    binary = chromium()
    if binary is None:
        pytest.skip("chromium is not installed (Debian's package chromium): web pages are not tested")
    process = ChromiumProcess(binary, tmp_path_factory.mktemp("chromium"))
    yield process
    process.stop()


@pytest.fixture
async def browser(chromium_process: ChromiumProcess) -> AsyncIterator[Browser]:
    """Connect to it."""
    async with Browser(chromium_process.socket) as connected:
        yield connected
