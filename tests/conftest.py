"""Fixtures that several test files share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from machines import Network, network
from synthetic import World, make_world

if TYPE_CHECKING:
    from paged import Paged

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a script began with &, for its children, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def paged(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Paged:
    """A page's store, runs and answers, made once for all files that look at it; read only."""
    from paged import make_paged  # here, for it imports text towers

    return make_paged(tmp_path_factory.mktemp("page"), full)


@pytest.fixture
def net() -> Iterator[Network]:
    """A network that has no machines yet."""
    try:
        with network() as made:
            yield made
    except OSError as error:
        pytest.skip(f"no machines out of namespaces: {error}")


@pytest.fixture
def tf32() -> Iterator[None]:
    """A program that allows TF32."""
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")
    for backend in (torch.backends.cuda, torch.backends.mkldnn):
        backend.matmul.fp32_precision = "none"
