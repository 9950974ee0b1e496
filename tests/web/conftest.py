"""Fixtures for SMN's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from smn import TOML, Smn

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Service
    from servers import Receiver


@pytest.fixture
async def smn(service: Service) -> Smn:
    """Return how to call SMN's API of a service with two projects."""
    return Smn(await service(TOML))


@pytest.fixture(scope="module")
def smn_receiver(serve_all: Callable[..., Receiver], tmp_path_factory: pytest.TempPathFactory) -> Receiver:
    """Start a service with two projects as a process of its own."""
    config = tmp_path_factory.mktemp("smn") / "receiver.toml"
    config.write_text(TOML, encoding="utf-8")
    return serve_all(RECEIVER_CONFIG=str(config))
