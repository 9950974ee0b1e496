"""The command line: one file for each command (``find``), what it prints (``find_view``), and what commands share."""

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
    "  receiver serve     listens on http://127.0.0.1:8080, with its own Valkey\n"
    "  receiver tail      shows events as they arrive\n"
    "  receiver simulate  posts callbacks as a provider does\n"
    "\n\bSettings are environment variables: see `receiver serve --help`.",
)
@click.version_option(package_name="sms-callback-receiver", prog_name="receiver", message="%(prog)s %(version)s")
def receiver() -> None:
    """Receive SMS callbacks and publish them as events in Redis streams."""


def main() -> None:
    """Run a command. A ReceiverError is printed as one line, without a traceback."""
    os.umask(0o077)  # files of commands and their children hold phone numbers: only this user may read them
    try:
        receiver(prog_name="receiver")
    except ReceiverError as error:
        click.echo(f"receiver: {error}", err=True)
        sys.exit(2)
