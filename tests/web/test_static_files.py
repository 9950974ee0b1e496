"""The files of the web pages: browsers keep them, and ask whether they have changed."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from receiver.web.static_files import NAMES

if TYPE_CHECKING:
    from conftest import Client

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@pytest.mark.parametrize("path", ["/console", "/docs", *(f"/static/{name}" for name in NAMES)])
async def test_a_file_is_sent_once(client: Client, path: str) -> None:
    """Compressed for browsers that ask for it, with its type, and again only if it is another one."""
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    zipped = await client.get(path, headers={"Accept-Encoding": "gzip"})
    assert zipped.content_type == TYPES.get(path.rpartition(".")[2], "text/html")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert await zipped.read() == await plain.read()
    again = await client.get(path, headers={"If-None-Match": zipped.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    assert (await client.get(path, headers={"If-None-Match": '"another"'})).status == 200


@pytest.mark.parametrize("path", ["/console", "/docs"])
async def test_a_page_may_load_nothing_but_files_of_the_service(client: Client, path: str) -> None:
    """Nor run a script or a style that stands in it, nor be framed."""
    page = await client.get(path)
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
    )
    assert "frame-ancestors 'none'" in policy
    text = await page.text()
    assert not re.search(r"<style|<script>|\sstyle=|\son[a-z]+=", text)
    loaded = re.findall(r'(?:src|<link[^>]* href)="([^"]+)"', text)
    assert loaded
    assert {name.partition("/")[0] for name in loaded} == {"static"}
    assert {name.partition("/")[2] for name in loaded} <= set(NAMES)


async def test_an_unknown_file_is_not_found(client: Client) -> None:
    """Nor are the pages, which have places of their own, nor what is beside the folder."""
    for name in ("nothing.js", "console.html", "..%2fapp.py", "uplot.LICENSE"):
        assert (await client.get(f"/static/{name}")).status == 404


def test_the_licence_of_the_library_is_in_the_package() -> None:
    """As it demands."""
    folder = files("receiver.web").joinpath("static")
    assert "MIT License" in folder.joinpath("uplot.LICENSE").read_text(encoding="utf-8")
    assert "uPlot (v1.6.32)" in folder.joinpath("uplot.js").read_text(encoding="utf-8")[:200]
