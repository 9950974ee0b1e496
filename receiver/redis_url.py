"""Validates ``REDIS_URL``. Messages never contain the value, which may hold a password."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from marshmallow import ValidationError

_SCHEMES: Final = ("redis", "rediss", "unix", "valkey", "valkeys")
_ENCRYPTED: Final = ("rediss", "valkeys")
_DATABASE: Final = re.compile(r"(/([0-9]+/?)?)?")
#: Allowed query parameters. They describe the server. Timeouts and protocol of the client are fixed, because our
#: guarantees depend on them.
_SOCKET_OPTIONS: Final = {"db": re.compile(r"[0-9]+")}
_TLS_OPTIONS: Final = {
    "ssl_ca_certs": re.compile(r".+"),
    "ssl_certfile": re.compile(r".+"),
    "ssl_keyfile": re.compile(r".+"),
    "ssl_cert_reqs": re.compile(r"none|optional|required"),
    "ssl_check_hostname": re.compile(r"true|false"),
}


def check_redis_url(value: str) -> None:
    """Raise ValidationError, with the fix, for an invalid Redis URL."""
    if not value.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        raise ValidationError("not a Redis URL; write redis://host:6379/0, rediss://… or unix:///path.")
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        port = 0
    if port == 0 or url.fragment:
        raise ValidationError(
            "not a Redis URL; write redis://host:6379/0, with a port from 1 to 65535, IPv6 addresses as [::1], and in "
            "a user or password %40 for @, %2F for /, %3A for :, %3F for ? and %23 for #."
        )
    _check_address(url)
    _check_query(url)


def _check_address(url: SplitResult) -> None:
    if url.scheme == "unix":
        if not url.path or url.hostname:
            raise ValidationError("the socket's path is missing; write unix:///run/redis.sock, with three slashes.")
    elif not _DATABASE.fullmatch(url.path):
        raise ValidationError("only the number of a database may follow the port; write redis://host:6379/0.")


def _check_query(url: SplitResult) -> None:
    allowed: dict[str, re.Pattern[str]] = {}
    fix = "query parameters are not allowed; remove ? and what follows it."
    if url.scheme == "unix":
        allowed, fix = _SOCKET_OPTIONS, "only the database may follow ?: unix:///run/redis.sock?db=0."
    elif url.scheme in _ENCRYPTED:
        allowed, fix = (
            _TLS_OPTIONS,
            (
                "only these may follow ?: ssl_ca_certs, ssl_certfile and ssl_keyfile (a path each), ssl_cert_reqs "
                "(none, optional or required) and ssl_check_hostname (true or false)."
            ),
        )
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in allowed or not allowed[name].fullmatch(value):
            raise ValidationError(fix)
