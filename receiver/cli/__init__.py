"""The command line: one file a command, and what several share. ``serving`` is the inside of ``receiver serve``."""

from __future__ import annotations

import os
import sys

import click

from receiver.cli.lazy_group import LazyGroup
from receiver.errors import ReceiverError


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="\b\nTo see it work, in three terminals:\n"
    "  receiver serve     listens on http://127.0.0.1:8080, with a Redis of its own\n"
    "  receiver tail      shows the events as they come\n"
    "  receiver simulate  posts callbacks as Tencent does\n"
    "\n\bSettings are environment variables: see `receiver serve --help`.",
)
@click.version_option(package_name="sms-callback-receiver", prog_name="receiver", message="%(prog)s %(version)s")
def receiver() -> None:
    """Receive SMS callbacks and hand them on as events in Redis streams."""


def main() -> None:
    """Run a command. Errors that we know are said in a sentence, without a traceback."""
    os.umask(0o077)  # what commands and their children write holds phone numbers: no other user may read it
    try:
        receiver(prog_name="receiver")
    except ReceiverError as error:
        click.echo(f"receiver: {error}", err=True)
        sys.exit(2)
