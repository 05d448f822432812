"""Where a network computes, by name."""

from __future__ import annotations

import torch

from lab.errors import LabError, unknown


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
            raise LabError(f"--device {name} needs a GPU that torch can use, and it sees {count}: use --device cpu")
    elif device.type != "cpu":
        raise unknown("device", name, ["auto", "cpu", "cuda"])
    return device
