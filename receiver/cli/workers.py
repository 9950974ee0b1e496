"""How ``receiver serve --workers N`` becomes gunicorn, which forks the workers; it then runs ``supervision``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from receiver.settings import Settings

#: Set for a gunicorn that has to stop the embedded Valkey when it ends.
EMBEDDED_URL: Final = "RECEIVER_EMBEDDED_URL"
_CONFIG: Final = "receiver.cli.supervision"


def become_supervisor(settings: Settings, redis_url: str) -> NoReturn:
    """Replace this process by a gunicorn with the settings' number of workers.

    A new process image, because prometheus_client decides when it is imported whether it counts in files.
    """
    counts = settings.data_dir / "metrics"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    environ = dict(os.environ, PROMETHEUS_MULTIPROC_DIR=str(counts.resolve()), RECEIVER_WORKERS=str(settings.workers))
    if settings.redis_url is None:
        environ[EMBEDDED_URL] = redis_url
    command = [sys.executable, "-m", "gunicorn", "--config", f"python:{_CONFIG}", f"{_CONFIG}:run"]
    sys.stderr.flush()
    os.execve(sys.executable, command, environ)  # noqa: S606 our own arguments
