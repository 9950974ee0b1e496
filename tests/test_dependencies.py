"""What is imported is declared: a package that comes along with another one may stop doing so."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imported():
    """Yield the top-level packages that the service imports, wherever it does."""
    for path in (ROOT / "receiver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def declared():
    """Return the names of the distributions that are installed with the service, extras of others included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    return {name for line in lines for name in re.findall(r"[a-z][a-z-]+", re.split("[<>=]", line)[0])}


def test_each_package_that_is_imported_is_declared():
    others = set(imported()) - set(sys.stdlib_module_names) - {"receiver"}
    distributions = packages_distributions()
    assert {"aiohttp", "multidict"} <= others
    assert {
        name for name in others if not {one.lower().replace("_", "-") for one in distributions[name]} & declared()
    } == set()
