"""A scene for each scenario: real processes, a real network in between, and a count of everything."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from chaos.guarantees import Scene, assert_guarantees, goes_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chaos.guarantees import Survives


@pytest.fixture
def survives(tmp_path: Path) -> Survives:
    """Give a scene with traffic to break; when the block ends, everything that was promised has to be there, once."""

    @asynccontextmanager
    async def scene(**arguments: Any) -> AsyncIterator[Scene]:
        async with Scene(tmp_path, **arguments) as harness:
            await harness.start_traffic()
            await goes_on(harness, 50)
            yield harness
            await harness.stop_traffic()
            assert await harness.settled(), "events are left in the spool, or the service has not gone back to Redis"
            await assert_guarantees(harness)

    return scene
