"""A scene for each scenario: real processes, a real network in between, and a count of everything."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from chaos.guarantees import assert_guarantees

from receiver.proving.stage import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chaos.guarantees import Survives


@pytest.fixture
def survives(tmp_path: Path) -> Survives:
    """Give a scene under load to break; when the block ends, everything that was promised has to be there, once."""

    @asynccontextmanager
    async def scene(**arguments: Any) -> AsyncIterator[Stage]:
        async with Stage(tmp_path, **arguments) as stage:
            await stage.traffic()
            yield stage
            await stage.quiet()
            assert await stage.settled(), "events are left in the spool, or the service has not gone back to Redis"
            await assert_guarantees(stage)

    return scene
