"""``receiver url``: where consumers find the events."""

from __future__ import annotations

import os

import click

from receiver.embedded import consumer_url
from receiver.errors import EmbeddedError
from receiver.settings import read_settings


@click.command(
    epilog="\b\nExample:\n"
    "  REDIS_URL=$(receiver url) python consumer.py\n\n"
    "\n\bIn the arguments of a program other users of the machine would see the password."
)
def url() -> None:
    """Print the URL of the Redis that holds the streams, its password included.

    That is REDIS_URL, or, while it is not set, the URL of the embedded Valkey.
    """
    settings = read_settings(os.environ)
    if settings.redis_url is not None:
        click.echo(settings.redis_url)
        return
    found = consumer_url(settings.data_dir / "valkey", settings.embedded_port)
    if "@" not in found:
        raise EmbeddedError(
            f"there is no embedded Valkey in {settings.data_dir}: run this where `receiver serve` has run, or set "
            "RECEIVER_DATA_DIR or REDIS_URL."
        )
    click.echo(found)
