"""Comparing signatures: in constant time, and with each of several secrets, so that secrets can be rotated."""

from __future__ import annotations

import hmac
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from receiver.errors import BadSignatureError, UnverifiableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from receiver.providers.base import CallbackRequest

#: Enough for the year 9999.
_MAX_DIGITS: Final = 12


def header(request: CallbackRequest, name: str, *, retried: bool = False) -> str:
    """Return a header that a signed request carries.

    Raises BadSignatureError without it. ``retried`` is for a provider that sends unsigned requests by mistake, and
    signs them when it sends them again: UnverifiableError asks it to.
    """
    value: str | None = request.headers.get(name)
    if value:
        if not value.isascii():
            raise BadSignatureError(f"{name} holds characters that no signature has")
        return value
    if retried:
        raise UnverifiableError(f"the request is not signed: {name} is missing; send it again")
    raise BadSignatureError(f"the request is not signed: {name} is missing")


def require_match(given: str, expected: Iterable[str]) -> None:
    """Raise BadSignatureError unless the given signature is one of those expected; compares in constant time."""
    require_match_of_any([given], expected)


def require_match_of_any(given: Iterable[str], expected: Iterable[str]) -> None:
    """Raise BadSignatureError unless one of the given signatures is one of those expected."""
    wanted = [one.encode() for one in given]
    for one in expected:  # made one after the other: the first is the one, except while a secret is rotated
        signature = one.encode()
        if any(hmac.compare_digest(signature, other) for other in wanted):
            return
    raise BadSignatureError("the signature is wrong; check the secret, and the public URL if that is signed")


def require_basic(request: CallbackRequest, credentials: Iterable[str]) -> None:
    """Raise BadSignatureError unless a request has the Basic authentication of one of ``user:password``."""
    scheme, _, given = header(request, "Authorization").partition(" ")
    if scheme.lower() != "basic":
        raise BadSignatureError("the request has no Basic authentication")
    require_match(given.strip(), (b64encode(one.encode()).decode() for one in credentials))


def require_recent(moment: float, now: float, tolerance: float) -> None:
    """Raise BadSignatureError for a signature made too long ago, or in the future. All in seconds."""
    if abs(now - moment) > tolerance:
        raise BadSignatureError(f"the signature is not of this time: {abs(now - moment):.0f} s from our clock")


def seconds_of(text: str) -> int:
    """Return the Unix time that a signed request carries. Raises BadSignatureError."""
    if not text.isdecimal() or len(text) > _MAX_DIGITS:
        raise BadSignatureError("the time of the signature is not in seconds since 1970")
    return int(text)


def secret_of(name: str, secrets: Mapping[str, str]) -> str:
    """Return the secret that a request selects by a name, an access key for example. Raises BadSignatureError."""
    if name not in secrets:
        raise BadSignatureError("the request is signed with a key that this project does not have")
    return secrets[name]
