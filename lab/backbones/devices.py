"""How exactly a frozen network computes: the number format, and what makes a run repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from lab.errors import LabError, unknown

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(name: str) -> Precision:
    """``name`` as a Precision. Raises LabError for any other word."""
    for known in get_args(Precision):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise unknown("precision", name, get_args(Precision))


def at_least_one(name: str, number: int) -> int:
    """``number``. Raises LabError below 1: a range with such a step is empty, and features would be left unwritten."""
    if number < 1:
        raise LabError(f"1 <= {name} must hold, got {name}={number}: give a positive number or leave it out")
    return number


@contextmanager
def exact_numerics(device: torch.device) -> Iterator[None]:
    """Frozen inference that gives the same bits twice: no autotuned kernels, and fp32 that is not TF32 in secret.

    cuDNN picks TF32 for fp32 convolutions by default, which would make "fp32" in a passport untrue.
    """
    with torch.inference_mode():
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
