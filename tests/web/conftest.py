"""Fixtures for SMN's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from smn import TOML, Smn

if TYPE_CHECKING:
    from conftest import Service


@pytest.fixture
async def smn(service: Service) -> Smn:
    """Return how to call SMN's API of a service with two projects."""
    return Smn(await service(TOML))
