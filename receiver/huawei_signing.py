"""Verifies Huawei Cloud's AK/SK signatures, without I/O.

https://support.huaweicloud.com/devg-apisign/api-sign-algorithm.html. Two forms of ``Authorization`` are in use:

``SDK-HMAC-SHA256 Access=AK, SignedHeaders=a;b, Signature=hex``
    HMAC-SHA256 with the secret key itself. Used by current SDKs.
``SDK-HMAC-SHA256 Credential=AK/yyyyMMdd/region/service/sdk_request, SignedHeaders=…, Signature=hex``
    With a key derived for day, region and service, as in AWS Signature Version 4. Used by SMN's Java SDK 2.0.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime
from hashlib import sha256
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ALGORITHM: Final = "SDK-HMAC-SHA256"
#: Seconds by which a signature's date may differ from our clock, in either direction.
MAX_SKEW: Final = 15 * 60
DATE_HEADER: Final = "x-sdk-date"

_AUTHORIZATION: Final = re.compile(
    rf"{ALGORITHM}\s+(?:Access=(?P<access>[^,\s]+)|Credential=(?P<credential>[^,\s]+)/(?P<scope>"
    r"[0-9]{8}/[^/,\s]+/[^/,\s]+/sdk_request))\s*,"
    r"\s*SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-fA-F]{64})"
)


class Authorization(NamedTuple):
    """A parsed ``Authorization`` header. Only the second form has a ``scope`` (``day/region/service/sdk_request``)."""

    access_key: str
    scope: str | None
    signed_headers: str
    signature: str


class SignedRequest(NamedTuple):
    """The parts of a request that a signature covers. ``path`` and ``query`` are undecoded, ``body_hash`` is hex."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body_hash: str


def parse_authorization(text: str) -> Authorization | None:
    """Parse the header. Returns None if it has neither form."""
    match = _AUTHORIZATION.fullmatch(text.strip())
    if match is None:
        return None
    access_key = match["access"] or match["credential"]
    return Authorization(access_key, match["scope"], match["headers"], match["signature"].lower())


def verify(
    authorization: Authorization, request: SignedRequest, secret_key: str, now: float, max_skew: float = MAX_SKEW
) -> bool:
    """Return whether the request was signed with the secret key, within ``max_skew`` seconds of ``now``.

    Signatures are compared in constant time.
    """
    headers = _signed_headers(authorization.signed_headers, request.headers)
    dates = [value.strip() for name, value in request.headers if name.lower() == DATE_HEADER]
    if headers is None or len(dates) != 1 or not _fresh(dates[0], now, max_skew):
        return False
    if authorization.scope is not None and not authorization.scope.startswith(dates[0][:8]):
        return False
    key = _key(secret_key, authorization.scope)
    expected = [
        hmac.new(key, _string_to_sign(authorization, dates[0], canonical), sha256).hexdigest()
        for canonical in _canonical(authorization, request, headers)
    ]
    return any([hmac.compare_digest(authorization.signature, one) for one in expected])  # noqa: C419 all are compared


def _fresh(date: str, now: float, max_skew: float) -> bool:
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", date):
        return False
    try:
        seconds = datetime.fromisoformat(date).timestamp()
    except ValueError:
        return False
    return abs(now - seconds) <= max_skew


def _signed_headers(names: str, headers: Iterable[tuple[str, str]]) -> str | None:
    """Return ``name:value`` lines of the named headers; None if one is missing or repeated."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value.strip())
    lines = []
    for name in names.split(";"):
        values = found.get(name, ())
        if len(values) != 1:
            return None
        lines.append(f"{name}:{values[0]}\n")
    return "".join(lines)


def _canonical(authorization: Authorization, request: SignedRequest, headers: str) -> Iterator[str]:
    """Yield the canonical requests that may have been signed. SDKs differ from the documentation in two cases."""
    queries = [parse_qsl(request.query, keep_blank_values=True)]
    if _by_java_sdk(authorization) and ("%" in request.query or "+" in request.query):
        # It encodes twice when it signs: %3A in the URL is signed as %253A, and + (a space) as %2B.
        queries.append([_pair(part) for part in request.query.split("&") if part])
    paths = [unquote(request.path, errors="surrogateescape")]
    if authorization.scope is None and "%" in request.path:
        # Node's SDK core encodes an already encoded path again: %3A in the URL is signed as %253A.
        paths.append(request.path)
    for path, pairs in product(paths, queries):
        uri = "/".join(map(_encoded, path.split("/")))
        query = "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in sorted(pairs))
        parts = request.method.upper(), uri if uri.endswith("/") else f"{uri}/", query, headers
        yield "\n".join((*parts, authorization.signed_headers, request.body_hash))


def _by_java_sdk(authorization: Authorization) -> bool:
    """Return whether SMN's Java SDK 2.0 may have signed: it derives the key, and signs exactly these two headers."""
    return authorization.scope is not None and authorization.signed_headers == f"host;{DATE_HEADER}"


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name, value


def _encoded(text: str) -> str:
    return quote(text, safe="~", errors="surrogateescape")


def _key(secret_key: str, scope: str | None) -> bytes:
    if scope is None:
        return secret_key.encode()
    key = f"SDK{secret_key}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(errors="surrogateescape"), "sha256")
    return key


def _string_to_sign(authorization: Authorization, date: str, canonical: str) -> bytes:
    scope = [] if authorization.scope is None else [authorization.scope]
    digest = sha256(canonical.encode(errors="surrogateescape")).hexdigest()
    return "\n".join((ALGORITHM, date, *scope, digest)).encode(errors="surrogateescape")
