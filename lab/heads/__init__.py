"""Heads: each weighs a video's frames by what a text asks for. One file a head."""

from __future__ import annotations

from typing import Any

from torch import nn

from lab.errors import unknown
from lab.heads.xpool import XPool

HEADS: dict[str, type[nn.Module]] = {"xpool": XPool}


def build_head(name: str, dim: int = 512, **keywords: Any) -> nn.Module:
    """A head by its name in ``HEADS``. Raises ``LabError`` with the nearest name for an unknown one."""
    if name not in HEADS:
        raise unknown("head", name, HEADS)
    return HEADS[name](dim, **keywords)
