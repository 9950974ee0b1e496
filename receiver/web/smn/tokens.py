"""Tokens that are issued for a user and password, as IAM does. Nothing is stored: every replica knows its own.

A token is the hex of ``[project, user, expiry]`` and of its HMAC. The key comes from the user's configured password
alone, so all processes with the same configuration accept it, and a changed password revokes it. An open project has no
users: its tokens open nothing that is closed, and cost nothing.
"""

from __future__ import annotations

import asyncio
import hmac
from hashlib import scrypt
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from receiver.projects import Project, Projects

#: Seconds that a token is good for. Huawei's IAM: 24 hours.
LIFETIME: Final = 24 * 3600
#: Slow (50 ms) on purpose: from a token that has leaked, nobody shall guess the password behind its key.
_SCRYPT_N: Final = 1 << 14
#: The key of every open project, known to everybody.
_OPEN: Final = b"open"
_MICROSECONDS: Final = 1_000_000
_Claims = tuple[str, str, int]
_claims: Final = msgspec.json.Decoder(_Claims)


class Token(NamedTuple):
    """A token and the times from and until when it is good, in seconds since the epoch."""

    text: str
    issued: float
    expires: float


class Tokens:
    """Issues tokens and recognises them."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        #: Keys by project and user, of configured users only. A task, so that all who wait share one derivation.
        self._keys: dict[tuple[str, str], asyncio.Task[bytes]] = {}

    async def issue(self, project: Project, user: str, now: float) -> Token:
        """Return a token for a user of a project whose password has been checked, or for anybody of an open one."""
        expires = int((now + LIFETIME) * _MICROSECONDS)
        text = await self._seal(project, user, expires)
        return Token(text, now, expires / _MICROSECONDS)

    async def owner(self, token: str, now: float) -> tuple[Project, str] | None:
        """Return the project and the user that a token was issued for, None if it is not ours or not good any more."""
        claims = _read(token)
        project = None if claims is None else self._projects.get(claims[0])
        if claims is None or project is None or not (project.open or claims[1] in project.users):
            return None
        # The whole token is made again and compared, so that there is one spelling of it only.
        genuine = hmac.compare_digest(token.encode(errors="replace"), (await self._seal(project, *claims[1:])).encode())
        return (project, claims[1]) if genuine and now * _MICROSECONDS < claims[2] else None

    async def _seal(self, project: Project, user: str, expires: int) -> str:
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
        except Exception:  # short of memory, most likely: the next request tries again
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
