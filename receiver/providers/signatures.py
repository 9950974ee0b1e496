"""Helpers for signatures. They compare in constant time, with each of several secrets to allow rotation."""

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
    """Return a header of a signed request. Raises BadSignatureError if it is missing.

    ``retried`` is for a provider that sometimes omits the signature and signs its retry: a missing header raises
    UnverifiableError, which asks for a retry.
    """
    value: str | None = request.headers.get(name)
    if value:
        if not value.isascii():
            raise BadSignatureError(f"{name} is not ASCII")
        return value
    if retried:
        raise UnverifiableError(f"the request is not signed: {name} is missing; send it again")
    raise BadSignatureError(f"the request is not signed: {name} is missing")


def require_match(given: str, expected: Iterable[str]) -> None:
    """Raise BadSignatureError unless the given signature is one of those expected. Compares in constant time."""
    wanted = given.encode()
    for one in expected:  # made one after the other: the first is the one, except while a secret is rotated
        if hmac.compare_digest(one.encode(), wanted):
            return
    raise _wrong()


def require_match_of_any(given: Iterable[str], expected: Iterable[str]) -> None:
    """Raise BadSignatureError unless one of the given signatures is one of those expected."""
    wanted = [one.encode() for one in given]
    for one in expected:
        signature = one.encode()
        if any(hmac.compare_digest(signature, other) for other in wanted):
            return
    raise _wrong()


def _wrong() -> BadSignatureError:
    return BadSignatureError("the signature is wrong; check the secret, and the public URL if that is signed")


def require_basic(request: CallbackRequest, credentials: Iterable[str]) -> None:
    """Raise BadSignatureError unless a request has Basic authentication with one of the ``user:password``."""
    scheme, _, given = header(request, "Authorization").partition(" ")
    if scheme.lower() != "basic":
        raise BadSignatureError("the request has no Basic authentication")
    require_match(given.strip(), (b64encode(one.encode()).decode() for one in credentials))


def require_recent(moment: float, now: float, tolerance: float) -> None:
    """Raise BadSignatureError for a signature more than ``tolerance`` from ``now``. All in seconds."""
    if abs(now - moment) > tolerance:
        raise BadSignatureError(f"the time of the signature is {abs(now - moment):.0f} s from our clock")


def seconds_of(text: str) -> int:
    """Parse the Unix time of a signed request. Raises BadSignatureError."""
    if not text.isdecimal() or len(text) > _MAX_DIGITS:
        raise BadSignatureError("the time of the signature is not in seconds since 1970")
    return int(text)


def secret_of(name: str, secrets: Mapping[str, str]) -> str:
    """Return the secret that a request selects by name, for example by access key. Raises BadSignatureError."""
    if name not in secrets:
        raise BadSignatureError("the request is signed with an unknown key")
    return secrets[name]
