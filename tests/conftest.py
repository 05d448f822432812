"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What the full store was made of."""
    return make_world(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="session")
def full(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store; read only, copy it to change it."""
    path = tmp_path_factory.mktemp("full") / "toy.zarr"
    world.fill(world.create(path))
    return path
