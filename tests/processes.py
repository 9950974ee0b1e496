"""What a process of another program uses."""

from __future__ import annotations

import os
from pathlib import Path


def peak_memory(pid: int) -> int:
    """Return the most bytes that a process has ever had in memory."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def processor_time(pid: int) -> float:
    """Return the seconds for which a process has been busy."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
