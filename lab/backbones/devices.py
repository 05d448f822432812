"""How exactly a frozen network computes: the number format, what makes a run repeatable, and the way to a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.device import full_float32
from lab.errors import LabError, unknown

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(name: str) -> Precision:
    """``name`` as a Precision. Raises LabError for any other word."""
    if name not in DTYPES:
        raise unknown("precision", name, DTYPES)
    return cast(Precision, name)


def at_least_one(name: str, number: int) -> int:
    """``number``. Raises LabError below 1: a range with such a step is empty, and features would be left unwritten."""
    if number < 1:
        raise LabError(f"1 <= {name} must hold, got {name}={number}: give a positive number or leave it out")
    return number


@contextmanager
def exact_numerics(device: torch.device) -> Iterator[None]:
    """Frozen inference that gives the same bits twice: no autotuned kernels, and fp32 that is not TF32 in secret.

    cuDNN picks TF32 for fp32 convolutions by default, and matrix products do where the program around asks for it:
    either would make "fp32" in a passport untrue.
    """
    with torch.inference_mode(), full_float32():
        if device.type != "cuda":
            yield
            return
        with _exact_convolutions():
            yield


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Convolutions of cuDNN without autotuning and TF32.

    By torch's newer name of their precision where it has one: a program that uses the newer names, as for
    ``torch.backends.fp32_precision``, makes the older ones, and with them ``cudnn.flags``, an error.
    """
    cudnn: Any = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):  # torch before 2.9
        with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
        return
    before = cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = True, False, True, "ieee"
    try:
        yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = before


def to_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """A copy of an array on a device; to a GPU from pinned memory, so that the host need not wait for it."""
    if device.type != "cuda":
        return torch.from_numpy(np.array(values))  # a copy, as torch refuses memory that Pillow marked read-only
    pinned = torch.empty(values.shape, dtype=torch.from_numpy(values[:0].copy()).dtype, pin_memory=True)
    pinned.numpy()[...] = values
    return pinned.to(device, non_blocking=True)


def fetching(values: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Begins the copy of a result to the host. What comes back waits for it, and for nothing that was begun later."""
    if values.device.type != "cuda":
        return values.float().numpy
    host = torch.empty(values.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(values.float(), non_blocking=True)  # to another type it would go by memory that is not pinned, and wait
    there = torch.cuda.current_stream(values.device).record_event()

    def wait() -> NDArray[np.float32]:
        there.synchronize()
        return host.numpy()

    return wait
