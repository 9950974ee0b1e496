"""The options with which commands find the settings of a service: ``--env-file`` and ``--data-dir``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from receiver.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Environment", "with_environment")
P = ParamSpec("P")
T = TypeVar("T")


def with_environment(command: Callable[Concatenate[Environment, P], T]) -> Callable[P, T]:
    """Give a command its Environment as the first argument, and the options for it."""

    @click.option(
        "--env-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Read settings from this file as well, as systemd and Docker do. They replace those of the environment. "
        "[default: RECEIVER_ENV_FILE]",
    )
    @click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="The data folder of the service, in place of RECEIVER_DATA_DIR.",
    )
    @functools.wraps(command)
    def with_options(*args: P.args, **kwargs: P.kwargs) -> T:
        env_file, data_dir = kwargs.pop("env_file"), kwargs.pop("data_dir")
        return command(Environment(env_file, data_dir), *args, **kwargs)  # type: ignore[arg-type]  # click's types

    return with_options
