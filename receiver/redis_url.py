"""Parses ``REDIS_URL`` into a location: one node, the primary that Sentinels name, or a cluster.

Messages never contain the value, which may hold a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from marshmallow import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_SCHEMES: Final = ("redis", "rediss", "unix", "valkey", "valkeys")
_ENCRYPTED: Final = ("rediss", "valkeys")
_LIST: Final = re.compile(r"(redis|rediss|valkey|valkeys)\+(sentinel|cluster)://")
_DATABASE: Final = re.compile(r"(/([0-9]+/?)?)?")
_SERVICE: Final = re.compile(r"/(?P<service>[^/]+)(/(?P<db>[0-9]+)?)?")
_HOST: Final = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/?#@\s]+))(:(?P<port>[0-9]{1,5}))?")
_MAX_PORT: Final = 65535
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
_SENTINEL_OPTIONS: Final = {"sentinel_username": re.compile(r".+"), "sentinel_password": re.compile(r".+")}
_TLS_FIX: Final = (
    "ssl_ca_certs, ssl_certfile and ssl_keyfile (a path each), ssl_cert_reqs (none, optional or required) and "
    "ssl_check_hostname (true or false)"
)

_NO_QUERY: Final = "query parameters are not allowed; remove ? and what follows it."

#: Host and port.
HostPort = tuple[str, int]


class Kind(Enum):
    """How the primaries are found."""

    NODE = "node"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_DEFAULT_PORTS: Final = {Kind.SENTINEL: 26379, Kind.CLUSTER: 6379}


@dataclass(frozen=True, kw_only=True)
class RedisLocation:
    """Where Redis is. ``url`` leads to one node; ``hosts`` are the Sentinels, or the seeds of a cluster.

    ``options`` are arguments of redis-py's connections to Redis: user, password, TLS. ``sentinel_options`` are those
    of connections to Sentinels.
    """

    kind: Kind
    url: str
    hosts: tuple[HostPort, ...] = ()
    service: str = ""
    db: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def password_in_clear(self) -> tuple[str, ...]:
        """The hosts of other machines that a password goes to without TLS."""
        if self.kind is Kind.NODE:
            parts = urlsplit(self.url)
            hosts = [parts.hostname or ""]
            clear = bool(parts.password) and parts.scheme in ("redis", "valkey")
        else:
            hosts = [host for host, _ in self.hosts]
            clear = "ssl" not in self.options and "password" in {**self.options, **self.sentinel_options}
        return tuple(host for host in hosts if not _is_here(host)) if clear else ()


def check_redis_url(value: str) -> None:
    """Raise ValidationError, with the fix, for an invalid Redis URL."""
    parse_redis_url(value)


def parse_redis_url(value: str) -> RedisLocation:
    """Return the location that a Redis URL describes. Raises ValidationError with the fix."""
    listed = _LIST.match(value)
    if listed:
        return _parse_list(value, Kind(listed[2]), encrypted=listed[1] in _ENCRYPTED)
    _check_node(value)
    url = value.replace("valkey", "redis", 1) if value.startswith("valkey") else value
    return RedisLocation(kind=Kind.NODE, url=url)


def shown(url: str) -> str:
    """Return a URL without its password and query. The hosts may be a list, which ``urlsplit`` refuses with IPv6."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.partition("?")[0].rpartition("@")
    if at:
        user = user.partition(":")[0] + (":***" if ":" in user else "")
    return scheme + separator + user + at + host


def _check_node(value: str) -> None:
    if not value.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        raise ValidationError(
            "not a Redis URL; write redis://host:6379/0, rediss://…, unix:///path, redis+sentinel://host:26379/service "
            "or redis+cluster://host:6379,host:6379."
        )
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
    if url.scheme == "unix":
        _query(url.query, _SOCKET_OPTIONS, "only the database may follow ?: unix:///run/redis.sock?db=0.")
    elif url.scheme in _ENCRYPTED:
        _query(url.query, _TLS_OPTIONS, f"only these may follow ?: {_TLS_FIX}.")
    else:
        _query(url.query, {}, _NO_QUERY)


def _check_address(url: SplitResult) -> None:
    if url.scheme == "unix":
        if not url.path or url.hostname:
            raise ValidationError("the socket's path is missing; write unix:///run/redis.sock, with three slashes.")
    elif not _DATABASE.fullmatch(url.path):
        hint = "for several hosts write redis+sentinel:// or redis+cluster://" if "," in url.netloc else ""
        raise ValidationError(
            f"only the number of a database may follow the port; write redis://host:6379/0{hint and '; '}{hint}."
        )


def _parse_list(value: str, kind: Kind, *, encrypted: bool) -> RedisLocation:
    """Parse by hand: ``urlsplit`` refuses a list of hosts with IPv6 addresses."""
    rest, _, query = value.partition("://")[2].partition("?")
    user_info, _, hosts_and_path = rest.rpartition("@")
    hosts, slash, path = hosts_and_path.partition("/")
    if "#" in rest or "/" in user_info:
        raise ValidationError("write in a user or password %40 for @, %2F for /, %3A for :, %3F for ? and %23 for #.")
    tls, sentinel = _list_options(query, kind, encrypted=encrypted)
    service, db = _service(slash + path) if kind is Kind.SENTINEL else ("", _cluster_database(slash + path))
    return RedisLocation(
        kind=kind,
        url=value,
        hosts=_hosts(hosts, _DEFAULT_PORTS[kind]),
        service=service,
        db=db,
        options=_credentials(user_info) | tls,
        sentinel_options=sentinel | tls,
    )


def _list_options(query: str, kind: Kind, *, encrypted: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of TLS, and the credentials for Sentinels."""
    allowed: dict[str, re.Pattern[str]] = {}
    fixes = []
    if kind is Kind.SENTINEL:
        allowed |= _SENTINEL_OPTIONS
        fixes.append("sentinel_username, sentinel_password")
    if encrypted:
        allowed |= _TLS_OPTIONS
        fixes.append(_TLS_FIX)
    fix = f"only these may follow ?: {', '.join(fixes)}." if fixes else _NO_QUERY
    given = _query(query, allowed, fix)
    tls: dict[str, Any] = {"ssl": True} if encrypted else {}
    tls |= {
        name: value == "true" if name == "ssl_check_hostname" else value
        for name, value in given.items()
        if name in _TLS_OPTIONS
    }
    sentinel = {name.removeprefix("sentinel_"): value for name, value in given.items() if name in _SENTINEL_OPTIONS}
    return tls, sentinel


def _credentials(user_info: str) -> dict[str, Any]:
    user, _, password = user_info.partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: text for name, text in given.items() if text}


def _hosts(text: str, default_port: int) -> tuple[HostPort, ...]:
    parts = text.split(",")
    found: list[HostPort] = []
    for number, part in enumerate(parts, 1):
        match = _HOST.fullmatch(part)
        port = int(match["port"] or default_port) if match else 0
        if match is None or not 1 <= port <= _MAX_PORT:
            raise ValidationError(
                f"address {number} of {len(parts)} is not host:port; write host1:{default_port},host2:{default_port}, "
                "IPv6 addresses as [::1], and in a user or password %40 for @, %2F for / and %2C for a comma."
            )
        found.append((match["v6"] or match["name"], port))
    return tuple(found)


def _service(path: str) -> tuple[str, int]:
    match = _SERVICE.fullmatch(path)
    if match is None:
        raise ValidationError(
            "the name of the service that the Sentinels watch must follow the hosts, and after it the number of a "
            "database, if not 0; write redis+sentinel://host:26379/mymaster/0."
        )
    return unquote(match["service"]), int(match["db"] or 0)


def _cluster_database(path: str) -> int:
    if path not in ("", "/", "/0", "/0/"):
        raise ValidationError("a cluster has database 0 alone; remove / and what follows it.")
    return 0


def _query(text: str, allowed: Mapping[str, re.Pattern[str]], fix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in allowed or not allowed[name].fullmatch(value):
            raise ValidationError(fix)
        found[name] = value
    return found


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")
