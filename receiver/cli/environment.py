"""What a command runs with: the environment, the file of ``--env-file`` and the folder of ``--data-dir``.

The file has lines such as ``REDIS_URL=redis://127.0.0.1:6379/0``, as systemd's ``EnvironmentFile=`` and Docker's
``--env-file`` read them: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#EnvironmentFile=,
https://docs.docker.com/reference/cli/docker/container/run/#env. A value may stand in quotes, as systemd and Docker
Compose allow. ``$`` has no meaning.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import click
from dotenv.parser import parse_stream

from receiver.errors import SettingsError
from receiver.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from receiver.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
#: Besides #, in files of systemd.
_COMMENT: Final = ";"
_LINE: Final = "is not a line such as REDIS_URL=redis://127.0.0.1:6379/0; a comment begins with #."


class Environment:
    """The variables that configure a command, and the way back to them after a file has changed."""

    def __init__(self, env_file: Path | None = None, data_dir: Path | None = None) -> None:
        """Read the variables of the process, over them those of ``env_file``, over both ``data_dir``.

        Raises SettingsError.
        """
        self.env_file = None if env_file is None else env_file.absolute()
        self._data_dir = data_dir
        self.variables = self.read()

    def read(self) -> dict[str, str]:
        """Return the variables, with the file as it is now. Raises SettingsError."""
        own = {} if self._data_dir is None else {"RECEIVER_DATA_DIR": str(self._data_dir.absolute())}
        return {**os.environ, **({} if self.env_file is None else read_env_file(self.env_file)), **own}

    def settings(self, *, secrets: bool = False) -> Settings:
        """Return the settings, without the secrets of projects unless ``secrets``. Raises SettingsError."""
        return read_settings(self.variables, secrets=secrets)


def with_environment(command: Callable[Concatenate[Environment, P], T]) -> Callable[P, T]:
    """Give a command its Environment as the first argument, and the options for it."""

    @click.option(
        "--env-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Read settings from this file as well, as systemd and Docker do. They replace those of the environment.",
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


def read_env_file(path: Path) -> Mapping[str, str]:
    """Return the variables of a file. A name without a value is left out. Raises SettingsError with the line."""
    try:
        with path.open(encoding="utf-8") as lines:
            bindings = list(parse_stream(lines))
    except OSError as error:
        raise SettingsError([f"--env-file {path}: {error.strerror}; give the path of a readable file."]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"--env-file {path}: it is not text in UTF-8."]) from None
    bad = [one.original for one in bindings if one.error and not one.original.string.lstrip().startswith(_COMMENT)]
    wrong = [f"--env-file {path}, line {one.line}: {_LINE}" for one in bad]
    if wrong:
        raise SettingsError(wrong)
    return {one.key: one.value for one in bindings if one.key is not None and one.value is not None}
