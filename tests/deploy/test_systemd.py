"""deploy/receiver.service: well-formed, closed, and open enough for all that the service does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from messages import OK, body, report
from servers import Receiver

UNIT = Path(__file__).parents[2] / "deploy" / "receiver.service"
CONSUMER = UNIT.parent / "consumers" / "consumer.service"
#: What the kernel does under MemoryDenyWriteExecute=yes (prctl(2), PR_SET_MDWE, since Linux 6.3).
CONFINE = (
    "import ctypes, os, sys; assert not ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def analyze(*arguments):
    """Ask systemd's own checker."""
    binary = shutil.which("systemd-analyze")
    if binary is None:
        pytest.skip("systemd-analyze is not installed (Debian's package systemd): the unit is not verified")
    return subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)


def test_systemd_accepts_the_units_and_finds_the_first_closed():
    """Its exposure, 0 to 10 with 10 the worst, was 4.8 before."""
    done = analyze("verify", "--man=no", str(UNIT), str(CONSUMER))
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line or CONSUMER.name in line]
    problems = [line for line in ours if "not executable" not in line]
    assert problems == []
    done = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)[1]) < 2


def allowed(name):
    """Return the system calls of a set of systemd."""
    words = [line.strip() for line in analyze("syscall-filter", "--no-pager", name).stdout.splitlines()[1:]]
    nested = [allowed(word) for word in words if word.startswith("@")]
    return {word for word in words if re.fullmatch(r"\w+", word)}.union(*nested)


def test_the_unit_lets_the_service_do_all_that_it_does(tmp_path):
    """It starts, spools, answers and stops without memory that is writable and executable, and without other calls."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (Debian's package strace): system calls are not compared")
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    assert {"MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged"} <= {
        *lines
    }
    filtered = (allowed("@system-service") | allowed("@default")) - allowed("@privileged")
    environ = {"REDIS_URL": "redis://127.0.0.1:1/0", "RECEIVER_INDEX": "1"}
    trace = tmp_path / "trace"
    tracing = [strace, "-D", "-f", "-qq", "-e", "signal=none", "-o", str(trace)]
    service = Receiver(tmp_path, environ, under=[*tracing, sys.executable, "-c", CONFINE])
    assert service.post(body([report()])) == (200, OK)
    assert json.loads(service.get("/readyz")[1])["spool"]["events"] == 1
    assert service.stop() == 0
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"bind", "fdatasync"} <= used
    # SQLite gives its files to the owner of the folder, as root alone.
    assert used - filtered <= ({"fchown"} if os.geteuid() == 0 else set())
