"""Options that several commands share, and the types of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from marshmallow import ValidationError

from receiver.streams.entry_ids import ENTRY_ID
from receiver.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Collection

    from receiver.projects import Project, Projects

#: Seconds; older than any event.
FOREVER: Final = 1e12

json_option = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")
project_option = click.option("--project", metavar="ID", help="Only this project. [default: all]")
topic_option = click.option(
    "--topic",
    "names",
    metavar="NAME",
    multiple=True,
    help="A topic's URN, or its name such as sms_success; may be repeated. [default: all]",
)

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


class Ago(click.ParamType[float]):
    """A duration before now: ``90s``, ``10m``, ``2h``, ``7d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 click's
        """Return seconds."""
        try:
            seconds: float | None = Seconds().deserialize(value)
        except ValidationError as error:
            self.fail(" ".join(map(str, error.messages)), param, ctx)
        return seconds or 0.0


class EntryId(click.ParamType[str]):
    """The id of an entry in a stream: ``1795258820220-0``."""

    name = "ID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 click's
        """Return the id unchanged."""
        if not ENTRY_ID.fullmatch(value):
            self.fail(f"{value!r} is not the id of an entry, such as 1795258820220-0.", param, ctx)
        return str(value)


entry_ids = click.argument("ids", nargs=-1, type=EntryId(), metavar="[ID]...")


def chosen_project(projects: Projects, project_id: str | None) -> Project:
    """Return the project of the option ``--project``, or the default one. Raises click.BadParameter."""
    project = projects.default if project_id is None else projects.get(project_id)
    if project is None:
        ids = ", ".join(project.id for project in projects.values())
        reason = "no project is the default" if project_id is None else f"there is no project {project_id!r}"
        raise click.BadParameter(f"{reason}; choose one of: {ids}.", param_hint="--project")
    return project


def chosen_projects(projects: Projects, project_id: str | None) -> list[Project]:
    """Return the project of the option ``--project``, or all. Raises click.BadParameter."""
    return [*projects.values()] if project_id is None else [chosen_project(projects, project_id)]


def of_project(ids: Collection[str]) -> str:
    """Return `` of project shop``, or nothing for several. An empty answer names it: the events may be of another."""
    return f" of project {next(iter(ids))}" if len(ids) == 1 else ""
