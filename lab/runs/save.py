"""A trained head to the disk, whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import Any

from torch import nn

from lab.atomic import replace_bytes, replace_text
from lab.errors import LabError
from lab.runs.places import RUNS, file_name, require_free
from lab.runs.record import FORMAT, Run
from lab.training.stages import Epoch


def save_run(head: nn.Module, run: Run, epochs: Collection[Epoch], runs: Path = RUNS, name: str | None = None) -> Path:
    """Writes a run, whole or not at all, and returns its directory, named after head, data set and time if not given.

    Raises ``LabError`` for a name that is taken, and for keywords that are no JSON.
    """
    from safetensors.torch import save

    require_free(runs, name)
    stem = file_name(name or f"{run.head}-{run.dataset}-{run.time[:19]}-s{run.recipe['seed']}")
    # Cloned, because two names may share one tensor (a layer used twice), which safetensors refuses.
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in head.state_dict().items()}
    try:
        told = json.dumps({**asdict(run), "format": FORMAT, "kept": _finite(run.kept)}, indent=1, default=_no_json)
    except TypeError as error:
        raise LabError(f"a run's keywords must be plain values, so that they can be saved: {error}") from None
    log = "".join(json.dumps(_finite(asdict(epoch))) + "\n" for epoch in epochs)
    runs.mkdir(parents=True, exist_ok=True)
    fresh = runs / f".{stem}.new-{token_hex(4)}"
    try:
        fresh.mkdir()
        replace_bytes(fresh / "head.safetensors", save(weights))
        replace_text(fresh / "run.json", told + "\n")
        replace_text(fresh / "log.jsonl", log)
        return _placed(fresh, runs / stem)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_room(head: nn.Module, runs: Path = RUNS, heads: int = 1) -> None:
    """Raises ``OSError`` where the weights of ``heads`` cannot be written: to be met before a training, not behind."""
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=runs) as probe:
        # Noise, since zeros take no room on a disk that compresses; waited for, since some disks say so only then.
        probe.write(os.urandom(heads * sum(value.nbytes for value in head.state_dict().values())))
        probe.flush()
        os.fsync(probe.fileno())


def _placed(fresh: Path, path: Path) -> Path:
    """Renames to ``path``, or where that is taken by then to ``path-2`` and so on."""
    for attempt in range(1, 1000):
        target = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        try:
            if not target.exists():  # an empty directory would be replaced by the rename
                return fresh.rename(target)
        except OSError:
            if not target.exists():
                raise
    raise LabError(f"{path} and 999 of its kind are there already: give the run a --name")


def _no_json(value: Any) -> Any:
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
