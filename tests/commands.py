"""Commands of the receiver as processes of their own, which start fast.

A command takes 0.7 s of processor time to import its modules. So a process of its own imports them once, and each
command is a fork of that: with its own id, memory, descriptors, signals and environment, to be killed as any other.
``python -m receiver`` itself is started by the tests of the help, of the deployments and of the README.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import receiver.cli

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "receiver.__main__",
        "receiver.runtime.gunicorn_arbiter",
        *(f"receiver.cli.{module.name}" for module in pkgutil.iter_modules(receiver.cli.__path__)),
    ]
)


class Command:
    """``receiver …`` as a process, with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(  # noqa: PLR0913, PLR0917 what a process is started with
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        cwd: Path,
        output: Path,
        errors: Path,
        stdin: str = "",
    ) -> None:
        """Start it. What it prints is appended to the files."""
        files = str(cwd), str(output), str(errors)
        self._process = _FORKS.Process(target=_run, args=(list(arguments), dict(environ), files, stdin), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, the negative signal that ended it, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, stdin: str = "", timeout: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as ``subprocess.run`` does."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        command = Command(arguments, environ, cwd, output, errors, stdin)
        try:
            code = command.wait(timeout)
        finally:
            command.kill()
        return subprocess.CompletedProcess(arguments, code, output.read_text(), errors.read_text())


def _run(arguments: list[str], environ: dict[str, str], files: tuple[str, str, str], stdin: str) -> None:
    """Do in the forked process what the system and the interpreter do at a start, then run the command."""
    cwd, *outputs = files
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    os.chdir(cwd)
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 a descriptor
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115 a descriptor
    sys.argv = ["receiver", *arguments]

    from receiver.__main__ import main  # noqa: PLC0415 it is loaded already; tests themselves do not need it

    main()
