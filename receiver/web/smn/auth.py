"""Authentication of lookups: a token in ``X-Auth-Token``, or an AK/SK signature in ``Authorization``.

Errors are those of SMN's gateway: https://support.huaweicloud.com/devg-apisign/api-sign-errorcode.html.
Every secret is compared, each in constant time, so that timing reveals nothing.
"""

from __future__ import annotations

import hmac
import secrets
import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from receiver.errors import GatewayError, GatewayRateLimitedError
from receiver.huawei_signing import ALGORITHM, SignedRequest, parse_authorization, verify
from receiver.web.smn.error_codes import FORBIDDEN
from receiver.web.smn.tokens import Tokens

if TYPE_CHECKING:
    from aiohttp import web

    from receiver.projects import Project, Projects
    from receiver.web.auth_failures import AuthFailures
    from receiver.web.browsers import BrowserGuard
    from receiver.web.client_address import ClientAddresses
    from receiver.web.smn.bodies import BodyReader


class Caller(NamedTuple):
    """A project that a request may use, and the caller's name for the audit log, which holds no secret."""

    project: Project
    name: str


class Credentials:
    """Checks the credentials of requests against those of the projects."""

    def __init__(
        self,
        projects: Projects,
        read_body: BodyReader,
        browsers: BrowserGuard,
        addresses: ClientAddresses,
        failures: AuthFailures,
    ) -> None:
        self._projects = projects
        self._addresses = addresses
        self.browsers = browsers
        self._failures = failures
        self._read_body = read_body
        self.reload()
        # Compared for an unknown access key, so that it takes as much time as a known one.
        self._decoy: list[tuple[Project | None, str]] = [(None, secrets.token_hex(20))]

    def reload(self) -> None:
        """Take the credentials of the projects as they are now."""
        projects = self._projects
        self.tokens = Tokens(projects)
        self._static = [(sha256(text.encode()).digest(), p) for p in projects.values() for text in p.tokens]
        self._secret_keys: dict[str, list[tuple[Project | None, str]]] = {}
        for project in projects.values():
            for access_key, secret_key in project.access_keys.items():
                self._secret_keys.setdefault(access_key, []).append((project, secret_key))

    async def check(self, request: web.Request) -> Caller:
        """Return the caller if the request may use the project that its path names.

        Raises GatewayError (401: missing or wrong credentials; 429: too many wrong ones), SmnError (403: credentials
        of another project), or ForbiddenError for a request of a web page to an open project.
        """
        project_id = request.match_info["project_id"]
        project = self._projects.get(project_id)
        if project is not None and project.open:
            self.browsers.check(request)
            return Caller(project, "anybody")
        for caller in await self.callers(request):
            if caller.project.id == project_id:
                return caller
        raise FORBIDDEN.error()

    async def callers(self, request: web.Request) -> list[Caller]:
        """Return the projects that the credentials give access to, at least one. Raises GatewayError."""
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith(ALGORITHM):
            return await self._with_signature(request, authorization)
        token = request.headers.get("X-Auth-Token")
        if not token:
            raise GatewayError("x-auth-token not found")
        return await self._with_token(request, token)

    def failure(self, request: web.Request, credential: str, reason: str) -> GatewayError:
        """Count wrong credentials, and return the error to raise."""
        wait = self._failures.count(self._addresses.client(request), credential)
        return GatewayError(reason) if wait is None else GatewayRateLimitedError(reason, wait)

    async def _with_token(self, request: web.Request, token: str) -> list[Caller]:
        digest = sha256(token.encode(errors="surrogateescape")).digest()
        matches = [(hmac.compare_digest(digest, static), project) for static, project in self._static]
        name = f"token {digest.hex()[:12]}"
        callers = [Caller(project, name) for match, project in matches if match]
        issued = await self.tokens.owner(token, time.time())
        if issued is not None:
            callers.append(Caller(issued[0], f"user {issued[1]}"))
        if not callers:
            raise self.failure(request, "token", "decrypt token fail")
        return callers

    async def _with_signature(self, request: web.Request, text: str) -> list[Caller]:
        authorization = parse_authorization(text)
        if authorization is None:
            raise self.failure(request, "signature", "verify aksk signature fail")
        candidates = self._secret_keys.get(authorization.access_key)
        url = request.rel_url
        signed = SignedRequest(
            request.method,
            url.raw_path,
            url.raw_query_string,
            tuple(request.headers.items()),
            # The hash covers the decompressed body. SDKs never compress, and HTTP libraries decompress on receipt.
            # The body is read only for a known access key, so that strangers cannot make us read bodies.
            sha256(await self._read_body(request) if candidates else b"").hexdigest(),
        )
        now = time.time()
        checked = [(project, verify(authorization, signed, key, now)) for project, key in candidates or self._decoy]
        name = f"access key {authorization.access_key}"
        callers = [Caller(project, name) for project, valid in checked if project and valid]
        if not callers:
            raise self.failure(request, "signature", "verify aksk signature fail")
        return callers
