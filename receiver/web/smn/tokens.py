"""Tokens for users and passwords, as IAM issues them. They are stateless.

A token is the hex of ``[project, user, expiry]`` and of its HMAC. The key is derived from the user's configured
password alone. So every process with the same configuration accepts the token, and a changed password revokes it. An
open project has no users: its tokens use a public key and give access to open projects only.
"""

from __future__ import annotations

import asyncio
import hmac
from hashlib import scrypt
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from receiver.projects import Project, Projects

#: Seconds for which a token is valid. Huawei's IAM: 24 hours.
LIFETIME: Final = 24 * 3600
#: Slow on purpose (50 ms), so that a leaked token does not allow guessing the password.
_SCRYPT_N: Final = 1 << 14
#: The key of every open project. It is public.
_OPEN: Final = b"open"
_MICROSECONDS: Final = 1_000_000
_Claims = tuple[str, str, int]
_claims: Final = msgspec.json.Decoder(_Claims)


class Token(NamedTuple):
    """A token, and when it was issued and expires, in seconds since the epoch."""

    text: str
    issued: float
    expires: float


class Tokens:
    """Issues and verifies tokens."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        #: Keys by project and user, of configured users only. Tasks, so that concurrent requests share one derivation.
        self._keys: dict[tuple[str, str], asyncio.Task[bytes]] = {}

    async def issue(self, project: Project, user: str, now: float) -> Token:
        """Return a token for a user. The caller has checked the password, unless the project is open."""
        expires = int((now + LIFETIME) * _MICROSECONDS)
        text = await self._signed_token(project, user, expires)
        return Token(text, now, expires / _MICROSECONDS)

    async def owner(self, token: str, now: float) -> tuple[Project, str] | None:
        """Return the project and user of a token; None if it is invalid or has expired."""
        claims = _read(token)
        project = None if claims is None else self._projects.get(claims[0])
        if claims is None or project is None or not (project.open or claims[1] in project.users):
            return None
        # The whole token is rebuilt and compared, so that it has only one valid spelling.
        expected = await self._signed_token(project, *claims[1:])
        genuine = hmac.compare_digest(token.encode(errors="replace"), expected.encode())
        return (project, claims[1]) if genuine and now * _MICROSECONDS < claims[2] else None

    async def _signed_token(self, project: Project, user: str, expires: int) -> str:
        claims = msgspec.json.encode((project.id, user, expires))
        signature = hmac.digest(await self._key(project, user), claims, "sha256")
        return f"{claims.hex()}.{signature.hex()}"

    async def _key(self, project: Project, user: str) -> bytes:
        if project.open:
            return _OPEN
        name = project.id, user
        if name not in self._keys:
            self._keys[name] = asyncio.create_task(asyncio.to_thread(_derive, project.users[user], "\0".join(name)))
        try:
            return await asyncio.shield(self._keys[name])
        except Exception:  # out of memory, most likely: the next request retries
            self._keys.pop(name, None)
            raise


def _derive(password: str, name: str) -> bytes:
    return scrypt(password.encode(), salt=f"receiver token\0{name}".encode(), n=_SCRYPT_N, r=8, p=1, dklen=32)


def _read(token: str) -> _Claims | None:
    try:
        claims: _Claims = _claims.decode(bytes.fromhex(token.partition(".")[0]))
    except (ValueError, msgspec.MsgspecError):
        return None
    return claims
