"""The files of the web pages, served from memory with a validator, so that browsers ask again and get 304."""

from __future__ import annotations

import gzip
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import ETag, hdrs, web

from receiver.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.projects import Projects

_FOLDER: Final = files("receiver.web").joinpath("static")
_TYPES: Final = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: Headers of every file. No other site may embed it.
_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-cache",
    hdrs.VARY: hdrs.ACCEPT_ENCODING,
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: What the pages may load: files of this service. Browsers enforce it. Scripts cannot insert HTML, which a provider's
#: text could contain (https://w3c.github.io/trusted-types/).
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
#: Headers of a page.
PAGE_HEADERS: Final = {
    "Content-Security-Policy": PAGE_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class StaticFile:
    """One file, or a page that was made."""

    def __init__(self, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        """``headers`` come on top of those of every file."""
        self._body = body
        self._type = content_type
        self._headers = {**_HEADERS, **(headers or {})}
        self._etag = ETag(blake2b(body, digest_size=16).hexdigest(), is_weak=True)

    def answer(self, request: web.Request) -> web.Response:
        """Return the file, or 304 if the browser has it."""
        etags = request.if_none_match
        if etags is not None and any(etag.value in (self._etag.value, "*") for etag in etags):
            response = web.Response(status=304, headers=self._headers)
        else:
            zipped = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
            body = self._zipped if zipped else self._body
            response = web.Response(body=body, content_type=self._type, charset="utf-8", headers=self._headers)
            if zipped:
                response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.etag = self._etag
        return response

    @cached_property
    def _zipped(self) -> bytes:
        return gzip.compress(self._body, mtime=0)


class StaticFiles:
    """The files of ``receiver/web/static``, read when the service starts."""

    def __init__(self, projects: Projects) -> None:
        """Read the files. The console needs no credentials for a project that has none."""
        self._projects = projects
        self._files = {name: StaticFile(_read(name), _TYPES[_suffix(name)]) for name in NAMES}
        page = _read("console.html")
        self._consoles = {
            open_: StaticFile(page.replace(b"{open}", text), _TYPES[".html"], PAGE_HEADERS)
            for open_, text in ((True, b"yes"), (False, b"no"))
        }

    async def file(self, request: web.Request) -> web.Response:
        """Answer ``GET /static/{file}``. Raises NotFoundError."""
        found = self._files.get(request.match_info["file"])
        if found is None:
            raise NotFoundError("no such file")
        return found.answer(request)

    async def console(self, request: web.Request) -> web.Response:
        """Answer ``GET /console``: the page without any data."""
        return self._consoles[self._projects.any_open].answer(request)


def _suffix(name: str) -> str:
    return name[name.rindex(".") :]


def _read(name: str) -> bytes:
    return _FOLDER.joinpath(name).read_bytes()


def _is_loaded(name: str) -> bool:
    return "." in name and _suffix(name) in _TYPES and not name.endswith(".html")


#: The names of all files that pages load.
NAMES: Final = sorted(file.name for file in _FOLDER.iterdir() if _is_loaded(file.name))
