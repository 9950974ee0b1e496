"""Signers of requests, written from the description of the algorithm alone: they share nothing with the service."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

from smn import ACCESS_KEY, REGION, SECRET_KEY


def stamp(seconds: float | None = None) -> str:
    """Return a date as X-Sdk-Date has it: now, unless told otherwise."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y%m%dT%H%M%SZ")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _canonical(method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: bytes) -> str:
    encoded_path = "/".join(quote(part, safe="~") for part in path.split("/"))
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    lines = [
        method,
        encoded_path if encoded_path.endswith("/") else encoded_path + "/",
        "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(query)),
        "".join(f"{name}:{lower[name]}\n" for name in sorted(lower)),
        ";".join(sorted(lower)),
        _hash(body),
    ]
    return "\n".join(lines)


def plain(  # noqa: PLR0913 all that a signature covers
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes = b"",
    *,
    keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
) -> dict[str, str]:
    """Return the headers with an ``Authorization: … Access=AK`` added; ``headers`` has X-Sdk-Date."""
    access, secret = keys
    digest = _hash(_canonical(method, path, query, headers, body).encode())
    text = f"SDK-HMAC-SHA256\n{headers['X-Sdk-Date']}\n{digest}"
    names = ";".join(sorted(name.lower() for name in headers))
    signature = _mac(secret.encode(), text).hex()
    return {
        **headers,
        "Authorization": f"SDK-HMAC-SHA256 Access={access}, SignedHeaders={names}, Signature={signature}",
    }


def derived(  # noqa: PLR0913 all that a signature covers
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes = b"",
    *,
    keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
) -> dict[str, str]:
    """Return the headers with an ``Authorization: … Credential=AK/day/region/SMN/sdk_request`` added."""
    access, secret = keys
    date = headers["X-Sdk-Date"]
    scope = f"{date[:8]}/{REGION}/SMN/sdk_request"
    key = ("SDK" + secret).encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    digest = _hash(_canonical(method, path, query, headers, body).encode())
    signature = _mac(key, f"SDK-HMAC-SHA256\n{date}\n{scope}\n{digest}").hex()
    names = ";".join(sorted(name.lower() for name in headers))
    return {
        **headers,
        "Authorization": f"SDK-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}",
    }
