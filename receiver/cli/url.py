"""``receiver url``: the URL from which consumers read events."""

from __future__ import annotations

import click

from receiver.cli.connections import no_valkey
from receiver.cli.environment import Environment, with_environment
from receiver.cli.options import json_option
from receiver.cli.output import echo_json
from receiver.embedded import consumer_url


@click.command(
    epilog="\b\nExample:\n"
    "  REDIS_URL=$(receiver url) python consumer.py\n\n"
    "\n\bDo not pass it as an argument of a program: other users of the machine could read the password."
)
@json_option
@with_environment
def url(environment: Environment, *, as_json: bool) -> None:
    """Print the URL of the Redis with the streams, including its password.

    It is REDIS_URL if set, else the URL of the embedded Valkey.
    """
    settings = environment.settings()
    found = settings.redis_url
    if found is None:
        found = consumer_url(settings.data_dir / "valkey", settings.embedded_port)
        if "@" not in found:
            raise no_valkey(settings)
    if as_json:
        echo_json({"url": found})
    else:
        click.echo(found)
