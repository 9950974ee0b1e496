"""Reads the TOML file of the projects. All problems are reported together, each with its place and the fix."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from receiver.error_paths import flatten_errors
from receiver.events import ROUTED, EventType
from receiver.partitions import MAX_STREAMS, Change, Partitions
from receiver.projects import DEFAULT_REGION, Network, Project, Projects
from receiver.providers import PROVIDERS
from receiver.providers.options import option_fields, options_of
from receiver.routing import LOOKUPS_GROUP, PROJECT_ID, topic_problem
from receiver.setting_fields import LIST, TABLE, TEXT, named_secrets, secrets, secrets_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: marshmallow's error messages, by error.
_Messages = dict[str, str | list[Any] | dict[Any, Any]]

_NAME: Final = validate.Length(1, 128, error="must have between {min} and {max} characters.")
_REGION: Final = validate.Regexp(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z",
    error="write 1 to 64 of the characters A-Z, a-z, 0-9, - and _, the first of them a letter or a digit.",
)
_PROJECT_ID: Final = validate.Regexp(
    PROJECT_ID.pattern + r"\Z", error="the id of a project has 1 to 64 of the characters A-Z, a-z, 0-9, - and _."
)
_BOOLEAN: Final[_Messages] = {"invalid": "write true or false, without quotes."}
_URL: Final[_Messages] = {
    "invalid": "write https://sms.example.com: scheme, host, and the path in front of /callbacks."
}
_CALLBACK_URL: Final = re.compile(rf"/callbacks/(?:{'|'.join(PROVIDERS)})\b|/sms/callback|[?#]")
_POWERS: Final = [1 << k for k in range(MAX_STREAMS.bit_length())]
_COUNT: Final = f"write a power of two from 1 to {MAX_STREAMS}."
_TIME: Final = "write a time with its zone, without quotes: 2026-12-01T00:00:00Z."
_CHANGES: Final[_Messages] = {"invalid": "write a list: [{{ since = 2026-12-01T00:00:00Z, streams = 4 }}]."}
_NO_PROJECT: Final = "name at least one project: [projects.<id>]."


class _Table(Schema):
    """A table whose error message for an unknown field lists the valid ones."""

    def __init__(self) -> None:
        super().__init__()
        self.error_messages |= {
            "unknown": f"Unknown field; use one of: {', '.join(self.fields)}.",
            "type": "must be a table; write [projects.<id>] and its fields below.",
        }


class _NetworkField(fields.String):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Network:  # type: ignore[override]  # noqa: ANN401 marshmallow's
        try:
            return Network.parse(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from None


class _Since(fields.Field[str]):
    """A time of TOML, as events write it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401, ARG002 marshmallow's
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise ValidationError(_TIME)
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _partitions_schema() -> Schema:
    """Return the schema of one change of ``[projects.ID.partitions]``."""
    streams = fields.Integer(
        strict=True, required=True, validate=validate.OneOf(_POWERS, error=_COUNT), error_messages={"invalid": _COUNT}
    )
    return _Table.from_dict({"since": _Since(), "streams": streams})()


def _providers_schema() -> Schema:
    """Return the schema of ``[projects.ID.providers]``: a table for each provider."""
    return _Table.from_dict(
        {name: fields.Nested(_Table.from_dict(option_fields(provider))()) for name, provider in PROVIDERS.items()}
    )()


@cache
def _schema() -> Schema:
    """Return the schema of the file."""
    name = fields.String(validate=_NAME, error_messages=TEXT)
    event_type = fields.String(validate=validate.OneOf([str(routed) for routed in ROUTED]))
    region = fields.String(validate=_REGION, error_messages=TEXT)
    project = _Table.from_dict(
        {
            "region": region,
            "default": fields.Boolean(truthy={True}, falsy={False}, error_messages=_BOOLEAN),
            "callback_keys": secrets(own=True),
            "allowed_networks": fields.List(_NetworkField(error_messages=TEXT), error_messages=LIST),
            "tokens": secrets(own=True),
            "sign_id": name,
            "consumer_groups": fields.List(name, error_messages=LIST),
            "routes": fields.Dict(keys=event_type, values=name, error_messages=TABLE),
            "partitions": fields.Dict(
                keys=event_type,
                values=fields.List(
                    fields.Nested(_partitions_schema()), validate=validate.Length(min=1), error_messages=_CHANGES
                ),
                error_messages=TABLE,
            ),
            "access_keys": named_secrets(name, own=True),
            "public_url": fields.Url(schemes={"http", "https"}, require_tld=False, error_messages=_URL),
            "providers": fields.Nested(_providers_schema()),
            "users": named_secrets(name, own=True),
        }
    )
    projects = fields.Dict(
        keys=fields.String(validate=_PROJECT_ID),
        values=fields.Nested(project()),
        required=True,
        validate=validate.Length(min=1, error=_NO_PROJECT),
        error_messages={"required": _NO_PROJECT, "invalid": _NO_PROJECT},
    )
    return _Table.from_dict({"region": region, "projects": projects})()


def read_projects(path: Path | None, environ: Mapping[str, str] | None, problems: list[str]) -> Projects:
    """Read the projects of a TOML file, and add every problem to ``problems``. Without ``environ``, without secrets.

    If there are any, the result only serves to find further problems.
    """
    if path is None:
        return Projects()
    tables = _tables(path, problems)
    if tables is None:
        return Projects({})
    try:
        with secrets_from(environ):
            loaded: Any = _schema().load(tables)
    except ValidationError as error:
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        problems += [f"{path}: {problem}" for problem in flatten_errors(messages)]
        loaded = error.valid_data
    region = loaded.get("region", DEFAULT_REGION)
    projects = [_project(key, region, raw) for key, raw in loaded.get("projects", {}).items()]
    problems += [f"{path}: {problem}" for problem in _contradictions(projects)]
    if environ is not None:
        # Invalid keys are missing here. They must not make the project look open, which would be a second problem.
        projects = [one for one in projects if not one.open_to_callbacks or _has_no_keys(tables["projects"][one.id])]
    return Projects({project.id: project for project in projects})


def _has_no_keys(table: Any) -> bool:  # noqa: ANN401 any TOML value
    """Return whether the file has no keys for a project, valid or not."""
    return isinstance(table, dict) and not table.get("callback_keys")


def _tables(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"RECEIVER_CONFIG={path}: {error.strerror}; give the path of a readable TOML file.")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: invalid TOML: {error}.")
    return None


def _project(project_id: str, region: str, raw: Mapping[str, Any]) -> Project:
    listed = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    providers = {name: options_of(PROVIDERS[name], options) for name, options in raw.get("providers", {}).items()}
    merged: dict[str, Any] = {"id": project_id, "region": region, **listed, "providers": providers}
    merged["partitions"] = {
        name: Partitions(Change(change.get("since", ""), change.get("streams", 1)) for change in changes)
        for name, changes in raw.get("partitions", {}).items()
        if changes
    }
    merged["public_url"] = raw.get("public_url", "").rstrip("/")
    return Project(**merged)


def _contradictions(projects: list[Project]) -> Iterator[str]:
    defaults = [project.id for project in projects if project.default]
    if len(defaults) > 1:
        yield f"projects {', '.join(defaults)} are all marked default = true; mark one."
    for project in projects:
        yield from _contradictions_of(project)


def _contradictions_of(project: Project) -> Iterator[str]:
    yield from _wrong_routes(project)
    yield from _wrong_partitions(project)
    if _CALLBACK_URL.search(project.public_url):
        yield f"projects.{project.id}.public_url is a callback URL; end it in front of /callbacks: https://sms.example.com."
    for name in project.providers:
        provider = project.provider(name)
        if provider.signs_url and provider.signed and not project.public_url:
            yield (
                f"projects.{project.id}.public_url is missing: the signatures of {provider.title} cover the URL. "
                "Write the scheme and host of the callback URL, https://sms.example.com."
            )
    if len(set(project.consumer_groups)) < len(project.consumer_groups):
        yield f"projects.{project.id}.consumer_groups names a group twice; name each once."
    if LOOKUPS_GROUP in project.consumer_groups:
        yield (
            f"projects.{project.id}.consumer_groups names {LOOKUPS_GROUP}, the group of the report index: the two "
            "would consume each other's events. Choose another name."
        )


def _wrong_routes(project: Project) -> Iterator[str]:
    for event_type, urn in project.routes.items():
        problem = topic_problem(urn, project.id)
        if problem:
            yield f"projects.{project.id}.routes.{event_type} = {urn!r} {problem}."
        if event_type == EventType.SENT and not project.publishes_pending:
            yield (
                f"projects.{project.id}.routes.{event_type} routes events that the project does not publish: set "
                "pending = true at a provider, or remove the route."
            )


def _wrong_partitions(project: Project) -> Iterator[str]:
    for event_type, partitions in project.partitions.items():
        times = [change.since for change in partitions.changes]
        if sorted(set(times)) != times:
            yield (
                f"projects.{project.id}.partitions.{event_type}: write the changes in the order of their times, each "
                "time once; only the first may leave `since` out."
            )
