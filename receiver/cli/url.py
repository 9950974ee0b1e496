"""``receiver url``: the URL from which consumers read events."""

from __future__ import annotations

import os

import click

from receiver.embedded import consumer_url
from receiver.errors import EmbeddedError
from receiver.settings import read_settings


@click.command(
    epilog="\b\nExample:\n"
    "  REDIS_URL=$(receiver url) python consumer.py\n\n"
    "\n\bDo not pass it as an argument of a program: other users of the machine could read the password."
)
def url() -> None:
    """Print the URL of the Redis with the streams, including its password.

    It is REDIS_URL if set, else the URL of the embedded Valkey.
    """
    settings = read_settings(os.environ)
    if settings.redis_url is not None:
        click.echo(settings.redis_url)
        return
    found = consumer_url(settings.data_dir / "valkey", settings.embedded_port)
    if "@" not in found:
        raise EmbeddedError(
            f"there is no embedded Valkey in {settings.data_dir}: run this in the folder of `receiver serve`, or set "
            "RECEIVER_DATA_DIR or REDIS_URL."
        )
    click.echo(found)
