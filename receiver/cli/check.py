"""``receiver check``: whether the service would start here, and keep its guarantees."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Final

import click
from rich.table import Table

from receiver.cli.checking.callbacks import URLS
from receiver.cli.checking.findings import Finding, Severity
from receiver.cli.checking.machine import configuration, disk
from receiver.cli.checking.redis import redis
from receiver.cli.connections import run
from receiver.cli.environment import Environment, with_environment
from receiver.cli.formatting import counted, safe
from receiver.cli.options import json_option
from receiver.cli.output import console, echo_json, print_table

_SIGNS: Final = {
    Severity.OK: ("✓", "green"),
    Severity.NOTE: ("i", "cyan"),
    Severity.WARNING: ("!", "yellow"),
    Severity.ERROR: ("✗", "bold red"),
}


@click.command(
    epilog="\b\nExamples:\n"
    "  receiver check                                      with the environment of the service\n"
    "  receiver check --env-file /etc/receiver/environment with that of a file\n"
    "  receiver check --strict || exit 1                   in a deployment: warnings count, too"
)
@click.option("--strict", is_flag=True, help="Warnings make the exit code 1 as well.")
@json_option
@with_environment
def check(environment: Environment, *, strict: bool, as_json: bool) -> None:
    """Check the configuration, the disk and Redis, all at once.

    Each problem comes with its fix. The exit code is 1 if there is an error. For each provider of a project it shows
    the URL to enter there.
    """
    settings, findings = configuration(environment.variables)
    findings += disk(settings)
    if settings.redis_url is not None or not environment.variables.get(
        "REDIS_URL"
    ):  # an invalid one is among the findings
        findings += run(redis(settings))
    if as_json:
        for finding in findings:
            echo_json(finding._asdict() | {"fix": finding.fix or None})
    else:
        _print(findings)
    fatal = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    if any(finding.severity in fatal for finding in findings):
        sys.exit(1)


def _print(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for severity, area, what, fix in (finding for finding in findings if finding.area != URLS):
        sign, colour = _SIGNS[severity]
        sentence = safe(what) if severity in (Severity.OK, Severity.NOTE) else f"[{colour}]{_plain(what)}[/]"
        table.add_row(f"[{colour}]{sign}[/]", area, sentence + (f"\n[dim]→[/] {_plain(fix)}" if fix else ""))
    print_table(table)
    out = console()
    urls = [finding for finding in findings if finding.area == URLS]
    if urls:
        out.print("\nTo be entered at the providers:", style="dim")
    for url in urls:
        out.print(_plain(url.what), soft_wrap=True)  # a URL in one piece can be copied
        out.print(f"[dim]→ {_plain(url.fix)}[/]")
    out.print(_verdict(findings))


def _plain(text: str) -> str:
    return safe(text).replace("[", r"\[")


def _verdict(findings: list[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    if errors:
        return f"\n[bold red]{counted(errors, 'error')}[/], {counted(warnings, 'warning')}."
    if warnings:
        return f"\n[yellow]No error, {counted(warnings, 'warning')}.[/]"
    return "\n[green]All is well.[/]"
