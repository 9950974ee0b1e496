"""Every setting of the environment, with its help text, checked as a whole at start.

Each setting is declared once: the schema is generated from the dataclass. Projects come from the TOML file, see
``project_file``. Any problem prevents the start. It names the setting, the error and the fix.
"""

from __future__ import annotations

import dataclasses
import difflib
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from receiver.errors import SettingsError
from receiver.project_file import read_projects
from receiver.projects import Network, Projects
from receiver.redis_url import check_redis_url
from receiver.units import Seconds, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def _host(value: str) -> None:
    if value.startswith("["):
        raise ValidationError(f"remove the brackets; write {value.strip('[]')}.")


class _Path(fields.String):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Path:  # type: ignore[override]  # noqa: ANN401 marshmallow's
        return Path(super()._deserialize(value, attr, data, **kwargs))


class _Networks(fields.String):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[Network, ...]:  # type: ignore[override]  # noqa: ANN401 marshmallow's
        found, wrong = [], []
        for part in super()._deserialize(value, attr, data, **kwargs).split(","):
            try:
                found.append(Network.parse(part.strip()))
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValidationError(wrong)
        return tuple(found)


def _setting(default: str, field: fields.Field[Any], help_: str, unset: Any = None, *, private: bool = False) -> Any:  # noqa: ANN401 a dataclass field stands for any type
    """Declare a setting with its default as text, or, without a default, the value of the unset setting.

    ``private``: the value may hold a password, and is in no message and no repr.
    """
    value = field.deserialize(default) if default else unset
    metadata = {"field": field, "help": help_, "default": default, "private": private}
    return dataclasses.field(default=value, metadata=metadata, repr=not private)


def _seconds(low: float, high: float) -> Seconds:
    return Seconds(
        validate=validate.Range(low, high, error="must be between {min} and {max} seconds; {input} s is not.")
    )


def _count(low: int, high: int | None = None) -> fields.Integer:
    return fields.Integer(validate=validate.Range(low, high))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings. Durations are in seconds, sizes in bytes."""

    # ruff: noqa: RUF009 ``_setting`` returns a dataclass field
    port: int = _setting("8080", _count(1, 65535), "port to listen on")
    host: str = _setting("127.0.0.1", fields.String(validate=_host), "address to listen on; 0.0.0.0 for all")
    internal_port: int | None = _setting(
        "", _count(1, 65535), "second port: lookups, metrics, documents and the console move there; unset: one for all"
    )
    internal_host: str = _setting("127.0.0.1", fields.String(validate=_host), "address of the second port")
    redis_url: str | None = _setting(
        "",
        fields.String(validate=check_redis_url),
        "Redis or Valkey to publish to: redis://…, redis+sentinel://…, redis+cluster://…; unset: an embedded Valkey",
        private=True,
    )
    data_dir: Path = _setting("data", _Path(), "folder of the spool and the embedded Valkey")
    config: Path | None = _setting("", _Path(), "TOML file of the projects; unset: one open project, default")
    log_level: str = _setting("info", fields.String(validate=validate.OneOf(LOG_LEVELS)), "least level that is logged")
    allow_open: bool = _setting("0", fields.Boolean(), "1: serve a project without keys on a public address")
    trusted_proxies: tuple[Network, ...] = _setting(
        "", _Networks(), "networks, comma-separated, whose X-Forwarded-For is believed", unset=()
    )
    fetch_proxy: str | None = _setting(
        "",
        fields.Url(schemes={"http", "https"}, require_tld=False),
        "forward proxy through which certificates and confirmations of providers are fetched",
        private=True,
    )
    workers: int = _setting("1", _count(1, 64), "worker processes; more than one run under a supervisor")
    embedded_port: int = _setting("6399", _count(1, 65535), "port of the embedded Valkey")

    max_connections: int = _setting(
        "10000", _count(1), "open connections of a process; at the bound a silent or idle one is closed for a new one"
    )
    max_body: int = _setting("4MiB", Size(validate=validate.Range(1024)), "largest callback, after decompression")
    max_items: int = _setting("10000", _count(1), "most items in one callback")
    read_timeout: float = _setting(
        "10s", _seconds(0.1, 300), "time for a body, or a connection's first request, to arrive"
    )
    publish_timeout: float = _setting(
        "500ms", _seconds(0.01, 1.2), "time for Redis to take a batch; then the spool does"
    )
    replicas: int = _setting(
        "0", _count(0, 32), "replicas of Redis that must have an event before it is safe; name all, for a fail-over"
    )
    max_inflight_bytes: int = _setting(
        "64MiB", Size(validate=validate.Range(1 << 20)), "bytes of callbacks and lookups in work"
    )
    max_inflight_events: int = _setting("100000", _count(1), "events in work; past either bound the answer is 503")
    stop_delay: float = _setting("1s", _seconds(0, 60), "after SIGTERM, time to serve on while /readyz says 503")
    stop_timeout: float = _setting("10s", _seconds(0.1, 300), "after that, time for requests in flight to finish")

    dedupe_window: float = _setting(
        "24h",
        _seconds(60, 30 * 86400),
        "time in which the same event is stored once; the same everywhere, a change forgets the ids",
    )
    spool_max_bytes: int = _setting("10GiB", Size(validate=validate.Range(1 << 20)), "disk that the spool may use")
    retention: float = _setting("72h", _seconds(1, 3650 * 86400), "age at which stream entries may be trimmed")
    max_entries: int = _setting("10000000", _count(1), "hard cap of entries a topic, read or not")
    index: str = _setting(
        "auto",
        fields.String(validate=validate.OneOf(("auto", "1", "0"))),
        "report index beside the service: 1 from the start, 0 never, auto once somebody looks reports up",
    )
    report_retention: float = _setting("7d", _seconds(60, 92 * 86400), "time that reports can be looked up")

    projects: Projects = dataclasses.field(default_factory=Projects)


def env_name(setting: str) -> str:
    """Return the environment variable of a setting: ``PORT`` and ``REDIS_URL``, the rest ``RECEIVER_…``."""
    return setting.upper() if setting in ("port", "redis_url") else f"RECEIVER_{setting.upper()}"


def described() -> list[tuple[str, str, str]]:
    """Return (variable, default, help) of every setting, for ``--help`` and the README. Defaults are text."""
    return [
        (env_name(f.name), f.metadata["default"], f.metadata["help"])
        for f in dataclasses.fields(Settings)
        if f.metadata
    ]


def read_settings(environ: Mapping[str, str], *, secrets: bool = True) -> Settings:
    """Read and check the environment and the file that ``RECEIVER_CONFIG`` names. Paths become absolute.

    Without ``secrets``, projects have none, and what makes a service with them unsafe is not checked: commands that
    only read need no access to secrets.

    Raises SettingsError with every problem found, not only the first.
    """
    problems: list[str] = []
    values = _read_environment(environ, problems)
    values["data_dir"] = values.get("data_dir", Settings.data_dir).absolute()
    projects = read_projects(values.get("config"), environ if secrets else None, problems)
    settings = Settings(**values, projects=projects)
    if settings.internal_port == settings.port:
        problems.append(f"RECEIVER_INTERNAL_PORT={settings.port}: it is PORT as well; choose another one.")
    if secrets:
        problems += _unsafe(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """Return a message for each ``RECEIVER_…`` variable that is not a setting, most likely a typing error."""
    names = {f"RECEIVER_{f.name.upper()}": env_name(f.name) for f in dataclasses.fields(Settings) if f.metadata}
    found = []
    for name in environ:
        if name.startswith("RECEIVER_") and name not in names.values():
            close = difflib.get_close_matches(name, names, n=1)
            found.append(f"{name} is not a setting" + (f"; did you mean {names[close[0]]}?" if close else "."))
    return found


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    declared = {env_name(f.name): f for f in dataclasses.fields(Settings) if f.metadata}
    schema = Schema.from_dict({name: f.metadata["field"] for name, f in declared.items()})(unknown=EXCLUDE)
    given = {name: value for name, value in environ.items() if value != ""}
    try:
        loaded: Any = schema.load(given)
    except ValidationError as error:
        messages: Any = error.messages
        for name, texts in messages.items():
            about = declared[name].metadata
            place = name if about["private"] else f"{name}={given[name]!r}"
            problems.append(f"{place}: {' '.join(texts)} ({about['help']})")
        loaded = error.valid_data
    return {declared[name].name: value for name, value in loaded.items()}


def _unsafe(settings: Settings) -> list[str]:
    """Return a problem for each project that anyone on the network could post to, or look up."""
    if settings.allow_open:
        return []
    found: list[str] = []
    if not _is_loopback(settings.host):
        found += [
            f"project {project.id} has no callback_keys, and RECEIVER_HOST={settings.host} is not a loopback address: "
            "anyone could post to it. Give it callback_keys in the file that RECEIVER_CONFIG names, or set "
            "RECEIVER_ALLOW_OPEN=1 if a proxy or firewall in front of the service restricts access."
            for project in settings.projects.values()
            if project.open_to_callbacks
        ]
    if settings.internal_port is not None and not _is_loopback(settings.internal_host):
        found += [
            f"project {project.id} has no secret, and RECEIVER_INTERNAL_HOST={settings.internal_host} is no loopback "
            "address: anyone could look up its messages. Give it tokens in the file that RECEIVER_CONFIG names, or set "
            "RECEIVER_ALLOW_OPEN=1 if a proxy or firewall in front of the service restricts access."
            for project in settings.projects.values()
            if project.open
        ]
    return found


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
