"""One cluster for all tests of a process: three primaries with a replica each, as durable as in production."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from receiver.chaos.cluster import ValkeyCluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Return the cluster. A test that breaks it mends it."""
    made = ValkeyCluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.end())
