"""How groups list their commands."""

from __future__ import annotations

import click


class InOrder(click.Group):
    """Lists commands in the order in which one meets them, not that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's
        """Return the names as they were added."""
        return list(self.commands)
