"""Runs the commands of a page of deploy/ on this machine, below a folder in place of the root."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What needs a machine of its own: packages, users, systemd, containers.
NOT_HERE = (
    "apt-get ", "python3 -m venv", "/opt/receiver/bin/pip ", "useradd ", "systemctl ", "nginx ", "chgrp ", "chown ",
    "sysctl ", "docker ", "kubectl ", "certbot ",
)  # fmt: skip


def commands(page, heading, folder):
    """Return the commands below a heading of a page, for a machine whose root is the folder."""
    text = (ROOT / "deploy" / page).read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    lines = "\n".join(line for line in blocks.splitlines() if not line.startswith(NOT_HERE))
    here = lines.replace("runuser -u receiver -- /opt/receiver/bin/receiver", f"{sys.executable} -m receiver")
    return re.sub(r"(?<![\w/])(/etc|/var)(?=[/ ])", rf"{folder}\1", here.replace("-g receiver", ""))


def run(text, cwd=ROOT):
    """Run commands in a folder, and return what they print."""
    done = subprocess.run(["/bin/sh", "-euc", text], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
