"""How every benchmark writes its numbers: ``results/NAME.json`` with date, device, versions, settings, results."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "zarr", "optuna", "av", "open_clip_torch")


def write(name: str, results: dict[str, Any], *, device: str = "cpu", **settings: Any) -> Path:
    """Writes ``results/NAME.json`` and returns its path. ``device`` is torch's name of what computed."""
    content = {
        "date": datetime.now(UTC).isoformat("T", "seconds"),
        "device": describe(device),
        "versions": versions(),
        "settings": settings,
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    return path


def describe(device: str) -> str:
    """A GPU's name, or a CPU's with the number of cores that may be used."""
    if not device.startswith("cpu"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return f"{_cpu()}, {len(os.sched_getaffinity(0))} cores, no GPU used"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2] for line in lines if line.startswith("model name"))
        return " ".join(name.replace("(R)", "").replace("(TM)", "").split())
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the packages that take the time."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
