"""Command groups that list their commands in logical order, and load them on demand."""

from __future__ import annotations

from importlib import import_module

import click

from receiver.startup_imports import startup_imports


class OrderedGroup(click.Group):
    """Lists commands in the order of declaration, not alphabetically."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's
        """Return the names in the order of declaration."""
        return list(self.commands)


class LazyGroup(click.Group):
    """Imports only the module of the command that is run, which keeps the start fast."""

    #: The names in the order of a first use.
    names = (
        "serve",
        "tail",
        "find",
        "url",
        "simulate",
        "check",
        "groups",
        "dead-letters",
        "replay",
        "quarantine",
        "spool",
        "routes",
        "index",
        "prove",
    )

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's
        """Return the names."""
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 click's
        """Return a command, or None for an unknown name."""
        if cmd_name not in self.names:
            return None
        with startup_imports():
            name = cmd_name.replace("-", "_")
            command: click.Command = getattr(import_module(f"receiver.cli.{name}"), name)
        return command
