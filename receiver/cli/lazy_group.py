"""How groups list their commands."""

from __future__ import annotations

from importlib import import_module

import click

from receiver.startup_imports import startup_imports


class OrderedGroup(click.Group):
    """Lists commands in the order in which one meets them, not that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's
        """Return the names as they were added."""
        return list(self.commands)


class LazyGroup(click.Group):
    """Finds each command in the file of its name, and reads no other: nobody waits for what they did not ask for."""

    #: The names, in the order in which one meets them.
    names = ("serve", "tail", "url", "simulate", "check", "quarantine", "spool", "routes", "index", "prove")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's
        """Return the names."""
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 click's
        """Return a command; None when there is none of this name."""
        if cmd_name not in self.names:
            return None
        with startup_imports():
            command: click.Command = getattr(import_module(f"receiver.cli.{cmd_name}"), cmd_name)
        return command
