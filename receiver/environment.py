"""The environment that configures a process: its variables, the file of ``--env-file``, the folder of ``--data-dir``.

``RECEIVER_ENV_FILE`` names the file as well. Children get its variables, and not its name: those of the service win.

The file has lines such as ``REDIS_URL=redis://127.0.0.1:6379/0``, as systemd's ``EnvironmentFile=`` and Docker's
``--env-file`` read them: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#EnvironmentFile=,
https://docs.docker.com/reference/cli/docker/container/run/#env. A value may stand in quotes, as systemd and Docker
Compose allow. ``$`` has no meaning.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotenv.parser import parse_stream

from receiver.errors import SettingsError
from receiver.settings import env_name, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.log import Logger
    from receiver.projects import Projects
    from receiver.settings import Settings

#: The variable that stands for ``--env-file``.
ENV_FILE: Final = "RECEIVER_ENV_FILE"
_OPTION: Final = "--env-file"
#: Besides #, in files of systemd.
_COMMENT: Final = ";"
_LINE: Final = "is not a line such as REDIS_URL=redis://127.0.0.1:6379/0; a comment begins with #."


class Environment:
    """The variables of a process, and the settings that they and the files they name make."""

    def __init__(self, env_file: Path | None = None, data_dir: Path | None = None) -> None:
        """Read the variables of the process, over them those of ``env_file``, over both ``data_dir``.

        Without ``env_file`` the variable RECEIVER_ENV_FILE names it. Raises SettingsError.
        """
        self._named_by = _OPTION
        if env_file is None and os.environ.get(ENV_FILE):
            env_file, self._named_by = Path(os.environ[ENV_FILE]), ENV_FILE
        self.env_file = None if env_file is None else env_file.absolute()
        self.data_dir = None if data_dir is None else data_dir.absolute()
        self.variables = self._read()
        self._loaded: Settings | None = None

    def settings(self, *, secrets: bool = False) -> Settings:
        """Return the settings, without the secrets of projects unless ``secrets``. Raises SettingsError."""
        self._loaded = read_settings(self.variables, secrets=secrets)
        return self._loaded

    def reload(self, logger: Logger, *, secrets: bool) -> Projects | None:
        """Read all files again and return the projects; with any mistake, log each and return None.

        Other settings stay as they were. Those that the file of ``--env-file`` has changed are named in the log.
        """
        try:
            settings = read_settings(self._read(), secrets=secrets)
        except SettingsError as mistakes:
            for problem in mistakes.problems:
                logger.error("settings.refused", problem=problem)  # noqa: TRY400 an operator's mistake needs no traceback
            return None
        changed = [] if self._loaded is None else _differences(self._loaded, settings)
        if changed:
            logger.warning("settings.need_restart", settings=changed)
        return settings.projects

    def _read(self) -> dict[str, str]:
        own = {} if self.data_dir is None else {"RECEIVER_DATA_DIR": str(self.data_dir)}
        of_file = {} if self.env_file is None else read_env_file(self.env_file, self._named_by)
        variables = {**os.environ, **of_file, **own}
        variables.pop(ENV_FILE, None)
        return variables


def _differences(before: Settings, after: Settings) -> list[str]:
    """Return the variables of settings that differ, projects aside."""
    names = [one.name for one in dataclasses.fields(before) if one.metadata]
    return [env_name(name) for name in names if _plain(getattr(before, name)) != _plain(getattr(after, name))]


def _plain(value: object) -> object:
    """Return a value that is equal to others of the same text: networks are objects."""
    return [str(one) for one in value] if isinstance(value, tuple) else value


def read_env_file(path: Path, named_by: str = _OPTION) -> Mapping[str, str]:
    """Return the variables of a file. A name without a value is left out. Raises SettingsError with the line.

    ``named_by`` is the option or the variable that has its path, for messages.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            bindings = list(parse_stream(lines))
    except OSError as error:
        raise SettingsError([f"{named_by} {path}: {error.strerror}; give the path of a readable file."]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{named_by} {path}: it is not text in UTF-8."]) from None
    bad = [one.original for one in bindings if one.error and not one.original.string.lstrip().startswith(_COMMENT)]
    wrong = [f"{named_by} {path}, line {one.line}: {_LINE}" for one in bad]
    if wrong:
        raise SettingsError(wrong)
    return {one.key: one.value for one in bindings if one.key is not None and one.value is not None}
