"""The command line: one file a command."""

from __future__ import annotations

import sys

import click

from receiver.cli.prove import prove
from receiver.cli.serve import serve
from receiver.errors import ReceiverError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def receiver() -> None:
    """Receive SMS callbacks and hand them on as events in Redis streams."""


receiver.add_command(serve)
receiver.add_command(prove)


def main() -> None:
    """Run a command. Errors that we know are said in a sentence, without a traceback."""
    try:
        receiver()
    except ReceiverError as error:
        click.echo(f"receiver: {error}", err=True)
        sys.exit(2)
