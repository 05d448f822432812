"""How both networks of the toy world are trained: AdamW, a warm-up and half a cosine; and how they are written."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lab import cli

Batch = TypeVar("Batch")

EVERY = 50  # steps to a line of the log


def fit(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[Batch], tuple[Tensor, *tuple[float, ...]]],
    settings: Any,
    what: str,
    **adamw: Any,
) -> tuple[list[list[float]], dict[str, Any]]:
    """Trains in place as either network's ``settings`` say, by what ``loss`` says of each batch first.

    Returns the means of all that it says over every 50 steps, and what a log tells of settings, time and machine.
    """
    steps: int = settings.steps
    warmup: int = settings.warmup

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    optimizer = torch.optim.AdamW(_groups(model, settings.weight_decay), lr=settings.lr, **adamw)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    said: list[tuple[float, ...]] = []
    start, busy = time.perf_counter(), time.process_time()
    model.train()
    with cli.bar(steps, what, "step") as bar:
        for batch in islice(batches, steps):
            first, *others = loss(batch)
            optimizer.zero_grad()
            first.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            said.append((first.item(), *others))
            bar.set_postfix(loss=f"{np.mean([row[0] for row in said[-EVERY:]]):.3f}", refresh=False)
            bar.update()
    log = {
        "settings": asdict(settings),
        "steps": len(said),
        "seconds": round(time.perf_counter() - start),
        "cpu seconds": round(time.process_time() - busy),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return [np.mean(said[i : i + EVERY], axis=0).round(4).tolist() for i in range(0, len(said), EVERY)], log


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Kernels and matrices decay; gains, biases, embeddings and the scale do not."""
    free = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in free if p.ndim > 1 and "embedding" not in name]
    others = [p for name, p in free if p.ndim <= 1 or "embedding" in name]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def write(folder: Path, name: str, state: Mapping[str, Tensor], log: Mapping[str, Any]) -> None:
    """``NAME.safetensors`` and ``NAME.log.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.safetensors"
    save_file({key: value.detach().contiguous() for key, value in state.items()}, weights)
    weights.chmod(0o644)
    (folder / f"{name}.log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
