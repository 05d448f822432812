"""Choosing a device, exact float32 on it, and smaller batches where a GPU's memory is full."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lab.errors import LabError, unknown

log = logging.getLogger(__name__)


def pick_device(name: str) -> torch.device:
    """The device called ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` (a GPU where torch sees one).

    Raises ``LabError`` where the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown("device", name, ["auto", "cpu", "cuda"]) from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            why = "" if torch.version.cuda else ", being built without CUDA"
            raise LabError(
                f"--device {name} needs a GPU that torch can use, and it sees {count}{why}: use --device cpu"
            )
    elif device.type != "cpu":
        raise unknown("device", name, ["auto", "cpu", "cuda"])
    return device


@contextmanager
def full_float32() -> Iterator[None]:
    """Matrix products of float32 are of float32, whatever the program around has allowed: no TF32, no bfloat16.

    ``torch.set_float32_matmul_precision`` and ``TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1`` ask for those in all of a process.
    Afterwards its settings are as before; one that runs torch in several threads has them changed for all meanwhile.
    """
    newer: list[tuple[Any, str]] = []
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by torch's newer names, whose words the older one does not know
        kinds: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
        before, newer = "", [(each.matmul, each.matmul.fp32_precision) for each in kinds]
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        if before:
            torch.set_float32_matmul_precision(before)
        for each, precision in newer:
            each.fp32_precision = precision


# -- memory of a GPU -------------------------------------------------------------------------------------------------


def free_bytes(device: torch.device) -> int | None:
    """What a GPU has left for this process, what torch keeps for itself and does not use included; None for a CPU."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


@contextmanager
def memory_told(what: str, remedy: str) -> Iterator[None]:
    """Turns a GPU that runs out of memory into a ``LabError``: what did not fit, and what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        said = ". ".join(" ".join(str(error).split()).split(". ")[:2]).rstrip(".")
        raise LabError(f"the GPU's memory does not hold {what} ({said}): use {remedy}") from None


class Room:
    """How many items go to a device at once: halved where its memory does not hold them, which is said once.

    ``what`` the items are, in the plural. One that fits no more is an error of torch's, ``torch.OutOfMemoryError``.
    """

    def __init__(self, size: int, what: str) -> None:
        self.size, self.what, self._said = size, what, False

    def share_out(self, work: Callable[[int, int], None], count: int) -> None:
        """``work(first, last)`` for so many items in their order, ``size`` of them at a time, each done once."""
        first = 0
        while first < count:
            last = min(first + self.size, count)
            if self.holds(lambda first=first, last=last: work(first, last), last - first):  # type: ignore[misc]
                first = last

    def holds(self, work: Callable[[], None], size: int) -> bool:
        """Does work on so many items, if memory allows; if not, ``size`` is half of that afterwards."""
        try:
            work()
        except torch.OutOfMemoryError:
            if size <= 1:
                raise
        else:
            return True
        # Not within the except clause, where the traceback would keep the tensors of the attempt.
        torch.cuda.empty_cache()
        self.size = min(self.size, size // 2)
        if not self._said:
            self._said = True
            log.warning(
                "the GPU's memory does not hold %d %s at once: %d at a time from here on", size, self.what, self.size
            )
        return False
