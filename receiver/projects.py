"""The projects (tenants) of the TOML file: keys, tokens, routes. Read and checked as a whole at start."""

from __future__ import annotations

import dataclasses
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from receiver.events import ROUTED
from receiver.routing import LOOKUPS_GROUP, PROJECT_ID, topic_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ipaddress import IPv4Address, IPv6Address
    from pathlib import Path

DEFAULT_REGION: Final = "local"
_SECRET: Final = validate.Length(1, 512, error="must have between {min} and {max} characters.")


class Network:
    """An IPv4 or IPv6 network, such as ``203.0.113.0/24``."""

    def __init__(self, network: IPv4Network | IPv6Network) -> None:
        """Wrap a parsed network."""
        self._network = network

    @classmethod
    def parse(cls, text: str) -> Network:
        """Read a network or a single address. Raises ValueError with the mend."""
        try:
            return cls(ip_network(text))
        except ValueError as error:
            raise ValueError(f"{error}; write an address or a network such as 203.0.113.0/24.") from None

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        """Tell whether an address lies in the network; IPv4 in IPv6's clothes is seen for what it is."""
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address) in self._network

    def __str__(self) -> str:
        """Return ``203.0.113.0/24``."""
        return str(self._network)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """A tenant. Secrets are plain text here: never log a project."""

    id: str
    region: str = DEFAULT_REGION
    default: bool = False
    callback_keys: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    allowed_networks: tuple[Network, ...] = ()
    tokens: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    sign_id: str | None = None
    consumer_groups: tuple[str, ...] = ()
    routes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    access_keys: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    users: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def open(self) -> bool:
        """True when nothing at all is asked of callers, because no secret of any kind is configured."""
        return not (self.callback_keys or self.tokens or self.access_keys or self.users)


@dataclasses.dataclass(frozen=True)
class Projects:
    """All projects by id. Without a file: one, ``default``, open."""

    by_id: Mapping[str, Project] = dataclasses.field(
        default_factory=lambda: {"default": Project(id="default", default=True)}
    )

    def __getitem__(self, project_id: str) -> Project:
        """Return a project. Raises KeyError."""
        return self.by_id[project_id]

    def get(self, project_id: str) -> Project | None:
        """Return a project, or None if there is no such project."""
        return self.by_id.get(project_id)

    def values(self) -> Iterator[Project]:
        """Iterate over the projects in the order of the file."""
        return iter(self.by_id.values())

    @property
    def default(self) -> Project | None:
        """Where ``POST /sms/callback`` goes: the project marked so, or the only one."""
        marked = [project for project in self.values() if project.default]
        if marked:
            return marked[0]
        return next(self.values()) if len(self.by_id) == 1 else None


class _Secret(fields.String):
    """A secret, or ``env:NAME`` for the environment variable that holds it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(validate=_SECRET)
        self._environ = environ

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401 marshmallow's
        text = super()._deserialize(value, attr, data, **kwargs)
        if not text.startswith("env:"):
            return text
        name = text.removeprefix("env:")
        if not self._environ.get(name):
            raise ValidationError(f"the environment variable {name} is not set; set it or write the secret here.")
        return self._environ[name]


class _NetworkField(fields.String):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Network:  # type: ignore[override]  # noqa: ANN401 marshmallow's
        try:
            return Network.parse(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from None


def _schema(environ: Mapping[str, str]) -> Schema:
    secret = _Secret(environ)
    name = fields.String(validate=validate.Length(1, 128))
    project = Schema.from_dict(
        {
            "region": fields.String(validate=validate.Regexp(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")),
            "default": fields.Boolean(truthy={True}, falsy={False}),
            "callback_keys": fields.List(secret),
            "allowed_networks": fields.List(_NetworkField()),
            "tokens": fields.List(secret),
            "sign_id": name,
            "consumer_groups": fields.List(name),
            "routes": fields.Dict(keys=fields.String(validate=validate.OneOf([str(t) for t in ROUTED])), values=name),
            "access_keys": fields.Dict(keys=name, values=secret),
            "users": fields.Dict(keys=name, values=secret),
        }
    )
    region = fields.String(load_default=DEFAULT_REGION, validate=validate.Regexp(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z"))
    projects = fields.Dict(
        keys=fields.String(validate=validate.Regexp(PROJECT_ID.pattern + r"\Z")),
        values=fields.Nested(project),
        required=True,
        validate=validate.Length(min=1, error="name at least one project: [projects.<id>]."),
    )
    return Schema.from_dict({"region": region, "projects": projects})()


def read_projects(path: Path | None, environ: Mapping[str, str], problems: list[str]) -> Projects:
    """Read the projects of a TOML file; what is wrong with them is added to ``problems``, all of it."""
    if path is None:
        return Projects()
    try:
        loaded: Any = _schema(environ).load(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        problems.append(f"RECEIVER_CONFIG={path}: {error.strerror}; give the path of a readable TOML file.")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: not TOML: {error}.")
    except ValidationError as error:
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        problems += [f"{path}: {place}" for place in places(messages)]
    else:
        projects = Projects({key: _project(key, loaded["region"], raw) for key, raw in loaded["projects"].items()})
        problems += [f"{path}: {problem}" for problem in _contradictions(projects)]
        return projects
    return Projects()


def places(messages: Any, at: str = "") -> Iterator[str]:  # noqa: ANN401 marshmallow's tree of messages
    """Flatten marshmallow's error tree into ``projects.a.tokens[0]: what is wrong``.

    The steps ``key`` and ``value`` that marshmallow puts into errors of dicts are left out.
    """
    if isinstance(messages, list):
        yield f"{at}: {' '.join(str(message) for message in messages)}"
        return
    for step, inner in messages.items():
        if isinstance(step, int):
            yield from places(inner, f"{at}[{step}]")
        elif step == "_schema" or (step in ("key", "value") and at):
            yield from places(inner, at)
        else:
            yield from places(inner, f"{at}.{step}" if at else str(step))


def _project(project_id: str, region: str, raw: Mapping[str, Any]) -> Project:
    listed = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    merged: dict[str, Any] = {"id": project_id, "region": region, **listed}
    return Project(**merged)


def _contradictions(projects: Projects) -> Iterator[str]:
    defaults = [project.id for project in projects.values() if project.default]
    if len(defaults) > 1:
        yield f"projects {', '.join(defaults)} are all marked default = true; mark one."
    for project in projects.values():
        for kind, urn in project.routes.items():
            problem = topic_problem(urn, project.id)
            if problem:
                yield f"projects.{project.id}.routes.{kind} = {urn!r} {problem}."
        if len(set(project.consumer_groups)) < len(project.consumer_groups):
            yield f"projects.{project.id}.consumer_groups names a group twice; name each once."
        if LOOKUPS_GROUP in project.consumer_groups:
            yield (
                f"projects.{project.id}.consumer_groups names {LOOKUPS_GROUP}, which is the group of the report index: "
                "the two would take each other's events. Choose another name."
            )
