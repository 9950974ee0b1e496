"""``receiver url``: the URL from which consumers read events."""

from __future__ import annotations

import click

from receiver.cli.connections import no_valkey
from receiver.cli.environment import Environment, with_environment
from receiver.embedded import consumer_url


@click.command(
    epilog="\b\nExample:\n"
    "  REDIS_URL=$(receiver url) python consumer.py\n\n"
    "\n\bDo not pass it as an argument of a program: other users of the machine could read the password."
)
@with_environment
def url(environment: Environment) -> None:
    """Print the URL of the Redis with the streams, including its password.

    It is REDIS_URL if set, else the URL of the embedded Valkey.
    """
    settings = environment.settings()
    if settings.redis_url is not None:
        click.echo(settings.redis_url)
        return
    found = consumer_url(settings.data_dir / "valkey", settings.embedded_port)
    if "@" not in found:
        raise no_valkey(settings)
    click.echo(found)
