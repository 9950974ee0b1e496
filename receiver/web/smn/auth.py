"""Who may use the lookups: a token in ``X-Auth-Token``, or an AK/SK signature in ``Authorization``.

Errors are those of the gateway in front of SMN: https://support.huaweicloud.com/devg-apisign/api-sign-errorcode.html.
Secrets are only ever compared in constant time, and all of them, so that the time taken tells nothing.
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
    from receiver.web.smn.bodies import Body


class Caller(NamedTuple):
    """A project that a request may use, and for the audit log who sent it: never a secret."""

    project: Project
    who: str


class Credentials:
    """Checks the credentials of a request against those of the projects."""

    def __init__(
        self,
        projects: Projects,
        body: Body,
        browsers: BrowserGuard,
        addresses: ClientAddresses,
        failures: AuthFailures,
    ) -> None:
        self._projects = projects
        self._addresses = addresses
        self.browsers = browsers
        self._failures = failures
        self._body = body
        self.tokens = Tokens(projects)
        self._static = [(sha256(text.encode()).digest(), p) for p in projects.values() for text in p.tokens]
        self._secret_keys: dict[str, list[tuple[Project | None, str]]] = {}
        for project in projects.values():
            for access_key, secret_key in project.access_keys.items():
                self._secret_keys.setdefault(access_key, []).append((project, secret_key))
        # An unknown access key costs as much time as a known one.
        self._nobody: list[tuple[Project | None, str]] = [(None, secrets.token_hex(20))]

    async def check(self, request: web.Request, project_id: str) -> Caller:
        """Return the caller if the request may use the project.

        Raises GatewayError (401: no credentials, or wrong ones; 429: too many wrong ones) or SmnError (403: those of
        another project). A project without any secret is open to all but web pages (ForbiddenError).
        """
        project = self._projects.get(project_id)
        if project is not None and project.open:
            self.browsers.check(request)
            return Caller(project, "anybody")
        for caller in await self.callers(request):
            if caller.project.id == project_id:
                return caller
        raise FORBIDDEN.error()

    async def callers(self, request: web.Request) -> list[Caller]:
        """Return what the credentials of a request open: at least one project. Raises GatewayError."""
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith(ALGORITHM):
            return await self._signed(request, authorization)
        token = request.headers.get("X-Auth-Token")
        if not token:
            raise GatewayError("x-auth-token not found")
        return await self._bearing(request, token)

    def failure(self, request: web.Request, credential: str, reason: str) -> GatewayError:
        """Count wrong credentials, and return the error to raise."""
        wait = self._failures.count(self._addresses.client(request), credential)
        return GatewayError(reason) if wait is None else GatewayRateLimitedError(reason, wait)

    async def _bearing(self, request: web.Request, token: str) -> list[Caller]:
        digest = sha256(token.encode(errors="surrogateescape")).digest()
        matches = [(hmac.compare_digest(digest, known), project) for known, project in self._static]
        who = f"token {digest.hex()[:12]}"
        callers = [Caller(project, who) for match, project in matches if match]
        issued = await self.tokens.owner(token, time.time())
        if issued is not None:
            callers.append(Caller(issued[0], f"user {issued[1]}"))
        if not callers:
            raise self.failure(request, "token", "decrypt token fail")
        return callers

    async def _signed(self, request: web.Request, text: str) -> list[Caller]:
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
            # Unpacked, if it came packed: the HTTP library unpacks before anybody sees it, and no SDK packs.
            # A stranger cannot make us read a body: an access key is no secret, but one has to know it.
            sha256(await self._body(request) if candidates else b"").hexdigest(),
        )
        now = time.time()
        good = [(project, verify(authorization, signed, key, now)) for project, key in candidates or self._nobody]
        callers = [Caller(project, f"access key {authorization.access_key}") for project, ok in good if project and ok]
        if not callers:
            raise self.failure(request, "signature", "verify aksk signature fail")
        return callers
