"""Instructions an event of the pure steps, counted by callgrind: a regression check that noise cannot disturb.

    .venv/bin/python tests/bench/instructions.py            # compares with instructions.json; a minute or two
    .venv/bin/python tests/bench/instructions.py --record   # writes instructions.json anew

Needs valgrind. The counts depend on the build of Python and the libraries, so they are compared only with counts of
the same versions; a step that takes over 5 % more than recorded fails the command.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

RECORD = Path(__file__).with_suffix(".json")
LIBRARIES = ("hiredis", "marshmallow", "msgspec")
TOLERANCE = 0.05
#: A step is run so often and twice so often: the difference is free of the start of the interpreter.
TIMES = 2000
BATCH = 100

STEPS = {
    "read (decode, normalise)": "lambda: provider.parse(request_of(body))",
    "read slowly (marshmallow)": "lambda: provider.parse(request_of(unknown))",
    "seal (id, envelope)": "lambda: [builder.build(event, topic, 1795000000000) for event in events]",
    "group (into script calls)": "lambda: script_calls.grouped(entries)",
    "pack (hiredis)": "lambda: publisher._pack(*window.arguments(call))",
}
SETUP = f"""
import json, sys
from receiver.delivery import publisher, script_calls
from receiver.events import EnvelopeBuilder
from receiver.providers import PROVIDERS
from receiver.providers.base import request_of
provider = PROVIDERS["tencent"]()
report = {{"user_receive_time": "2026-11-21 08:03:04", "nationcode": "86", "mobile": "13800138000",
          "report_status": "SUCCESS", "errmsg": "DELIVRD", "description": "delivered"}}
reports = [{{**report, "sid": f"5000:{{number:028d}}"}} for number in range({BATCH})]
body = json.dumps(reports).encode()
unknown = json.dumps([{{**report, "sid": str(number), "new": 1}} for number in range({BATCH})]).encode()
topic = "urn:smn:local:default:sms_success"
builder = EnvelopeBuilder("tencent", "default")
events = provider.parse(request_of(body)).events
entries = [builder.build(event, topic, 1795000000000) for event in events]
window = script_calls.CurrentWindow(86400)
call = script_calls.grouped(entries)[0]
"""


def instructions(step: str, times: int) -> int:
    """Run a step so often under callgrind, and return the instructions of the whole process."""
    code = f"{SETUP}\nstep = {STEPS[step]}\nfor _ in range({times} // {BATCH}): step()"
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "0"})
    counted = re.search(r"Collected : (\d+)", done.stderr)
    assert counted, done.stderr
    return int(counted[1])


def builds() -> dict[str, str]:
    """Return what the counts depend on."""
    return {"python": platform.python_version(), "machine": platform.machine()} | {n: version(n) for n in LIBRARIES}


@click.command(help=__doc__)
@click.option("--record", is_flag=True, help="Write the counts down instead of comparing.")
def main(*, record: bool) -> None:
    """Count, print, compare."""
    if shutil.which("valgrind") is None:
        raise click.ClickException("valgrind is not installed; apt-get install valgrind")
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    comparable = known.get("builds") == builds()
    counts = {step: (instructions(step, 2 * TIMES) - instructions(step, TIMES)) // TIMES for step in STEPS}
    table = Table("step", "instructions an event", "recorded", title="Pure steps of the callback path")
    for step, count in counts.items():
        before = known.get("counts", {}).get(step)
        table.add_row(step, f"{count:,}", f"{before:,}" if before and comparable else "other builds")
    Console().print(table)
    if record:
        RECORD.write_text(json.dumps({"builds": builds(), "counts": counts}, indent=1) + "\n")
    elif comparable:
        worse = [step for step, count in counts.items() if count > known["counts"][step] * (1 + TOLERANCE)]
        if worse:
            raise click.ClickException(f"more than {TOLERANCE:.0%} above the record: {', '.join(worse)}")


if __name__ == "__main__":
    main()
