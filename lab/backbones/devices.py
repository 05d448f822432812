"""Where and how exactly a frozen network computes: the device, the number format, and what makes a run repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from lab.errors import LabError, unknown

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """The device called ``cpu``, ``cuda`` or ``cuda:1``. Raises LabError where the machine has no such device."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown("device", name, ["cpu", "cuda"]) from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise LabError(f"--device {name} needs a GPU that torch can use, and it sees {count}: use --device cpu")
    elif device.type != "cpu":
        raise unknown("device", name, ["cpu", "cuda"])
    return device


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
