"""``receiver --help`` and errors in general."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from receiver.cli import receiver

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Run

_COMMANDS = ("serve", "tail", "find", "simulate", "check", "groups", "replay", "quarantine", "spool")


@pytest.mark.parametrize("command", [(), *((name,) for name in _COMMANDS)])
def test_help_fits_a_terminal_and_teaches_with_examples(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(receiver, [*command, "--help"], terminal_width=80)
    assert result.exit_code == 0
    if command != ("serve",):
        assert "\n  receiver " in result.output or "\n    receiver " in result.output


def test_mistakes_in_the_settings_are_sentences(run: Run) -> None:
    result = run("tail", PORT="http")
    assert result.returncode == 2
    assert result.stderr.startswith("receiver: PORT='http'")


def test_a_url_that_is_none_is_a_sentence(run: Run) -> None:
    result = run("serve", REDIS_URL="redis://127.0.0.1:notaport")
    assert result.returncode == 2
    assert result.stderr.startswith("receiver: REDIS_URL")
    assert result.stderr.count("\n") == 1


def test_ctrl_c_while_modules_are_loaded_ends_it_without_a_word(tmp_path: Path) -> None:
    """Also when the module that is just being loaded swallows exceptions, as some do."""
    lines = ("import os, signal", "try: os.kill(os.getpid(), signal.SIGINT)", "except BaseException: pass")
    (tmp_path / "click.py").write_text("\n".join(lines))
    result = subprocess.run(
        [sys.executable, "-m", "receiver", "serve"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == -signal.SIGINT
    assert (result.stdout, result.stderr) == ("", "")
