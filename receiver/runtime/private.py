"""Keeps the data folder private: it contains phone numbers, and the password of the embedded Valkey.

Files that the service creates are private from the beginning, since ``receiver`` sets its umask. This module handles
files that an earlier version or an operator created.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from receiver.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receiver.log import Logger

#: The names that the service uses in the data folder.
_OURS: Final = ("spool", "valkey", "metrics", "index.lock")
#: Another name that a data folder may contain: the root of a volume has it.
_OF_THE_FILE_SYSTEM: Final = "lost+found"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def keep_private(data_dir: Path, logger: Logger) -> None:
    """Create the data folder, or remove the rights of other users to the service's files in it.

    A folder that contains other files as well, such as /tmp or a home, keeps its mode; the service's files in it do
    not. The target of a link keeps its mode, since it may not be the service's.
    Raises SettingsError if the folder cannot be created, or if another user has created one of the service's files.
    """
    try:
        data_dir.mkdir(0o700, parents=True, exist_ok=True)
        data_dir = data_dir.resolve()
        ours = [data_dir / name for name in _OURS if os.path.lexists(data_dir / name)]
        _refuse_planted(data_dir, ours)
        roots = [data_dir] if _is_our_own(data_dir) else ours
    except OSError as error:
        raise SettingsError.cannot_write(data_dir, error) from None
    tightened, refused = 0, None
    for path in (found for root in roots for found in _exposed(root)):
        try:
            path.chmod(path.stat().st_mode & ~_OTHERS)
            tightened += 1
        except OSError as error:
            refused = error
    if tightened:
        logger.warning("data.made_private", folder=str(data_dir), count=tightened)
    if refused is not None:
        logger.error("data.not_private", error=str(refused), hint="other users of the machine may read phone numbers")


def exposed(data_dir: Path) -> bool:
    """Tell whether other users have rights to any of the service's files in a data folder."""
    try:
        return any(True for name in _OURS for _ in _exposed(data_dir / name))
    except PermissionError:  # this process runs as another user, who has no rights
        return False


def _refuse_planted(data_dir: Path, ours: list[Path]) -> None:
    """Refuse files of another user: in a folder that all users may write to, any of them may have created the files."""
    shared = data_dir.stat()
    if not shared.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    for path in ours:
        owner = path.lstat().st_uid
        if owner not in (os.geteuid(), shared.st_uid, 0):
            problem = (
                f"{path} belongs to another user ({owner}), who could read phone numbers. Set RECEIVER_DATA_DIR to a "
                "folder that only the service's user may write to."
            )
            raise SettingsError([problem])


def _is_our_own(data_dir: Path) -> bool:
    """Tell whether a data folder belongs to the service alone."""
    found = data_dir.stat()
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        return False
    return all(entry.name in (*_OURS, _OF_THE_FILE_SYSTEM) for entry in data_dir.iterdir())


def _exposed(root: Path) -> Iterator[Path]:
    """Yield the paths that other users have rights to, from the outside in, so that folders are closed first."""
    if _loose(root):
        yield root
    if root.is_dir() and not root.is_symlink():
        for folder, folders, files in os.walk(root):
            yield from (path for name in (*folders, *files) if _loose(path := root.joinpath(folder, name)))


def _loose(path: Path) -> bool:
    """Tell whether other users have rights to a path. A link gives none."""
    try:
        mode = path.lstat().st_mode
    except OSError:  # deleted in between, or another user's
        return False
    return not stat.S_ISLNK(mode) and path.name != _OF_THE_FILE_SYSTEM and bool(mode & _OTHERS)
