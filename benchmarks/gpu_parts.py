"""What benchmarks/gpu.py measures, each by itself: training, many at once, scoring, encoding, the pass."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made import features, wait
from torch import nn

from lab import Texts, build_head, similarity_matrix
from lab.training.recipe import Recipe

D, FRAMES, BATCH, EPOCHS, TRIALS = 512, 12, 32, 5, 16
#: (videos, texts)
VALIDATION = (100, 4_290)
BATCHES = (64, 128, 256, 512, 1024)
#: Steps of a training that only warms up, and of one that only counts.
FEW, SOME = 10, 320
#: Seconds after which nothing is timed once more: a GPU may be lent for minutes.
ENOUGH = 60.0

Found = dict[str, Any]


def seconds(action: Callable[[], object], device: str, rounds: int, *, before: int = 0) -> float:
    """Median wall time, the device's work included, after rounds that do not count; of fewer where they are long."""
    times: list[float] = []
    while len(times) < before + rounds and (len(times) <= before or sum(times) < ENOUGH):
        wait(device)
        start = time.perf_counter()
        action()
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[before:])


def _head(dim: int, dropout: float = 0.3) -> nn.Module:
    return build_head("xpool", dim, dropout=dropout)


def training(
    size: tuple[int, int], device: str, rounds: int, *, checked: bool, epochs: int = EPOCHS, dim: int = D
) -> Iterator[Found]:
    """Seconds of five epochs, captured and eager; more and more of what is found.

    If ``checked``, also with validation after each epoch, how far the losses of both are apart, and how often the host
    waits in an epoch: twice between epochs is the least.
    """
    from lab.training.loop import train  # here, as it brings the store's package along

    texts, videos = features(*size, FRAMES, dim, device)
    few, some = (texts.select(torch.arange(min(len(texts), steps * BATCH + 1))) for steps in (FEW, SOME))

    def run(
        capture: bool, epochs: int = epochs, on: Texts = texts, dropout: float = 0.3, **options: Any
    ) -> list[float]:
        recipe = Recipe(epochs=epochs, batch=BATCH)
        history = train(_head(dim, dropout), on, videos, recipe, capture=capture, **options)
        return [epoch.loss for epoch in history.epochs]

    run(True, 1, few)
    took = {"captured": seconds(lambda: run(True), device, rounds)}
    found: Found = {"steps an epoch": -(-len(texts) // BATCH), "seconds": took}
    yield dict(found)
    run(False, 1, few)
    took["eager"] = seconds(lambda: run(False), device, 1)
    found["eager over captured"] = took["eager"] / took["captured"]
    yield dict(found)
    if not checked:
        return
    validation = features(*VALIDATION, FRAMES, dim, device)
    took["captured, validated"] = seconds(lambda: run(True, validation=validation), device, 1)
    yield dict(found)
    apart = zip(run(True, 2, some, 0), run(False, 2, some, 0), strict=True)
    found["losses apart, no dropout"] = max(abs(a - b) for a, b in apart)
    yield dict(found)
    for how, capture in (("captured", True), ("eager", False)):
        once, twice = (host_waits(lambda n=n, c=capture: run(c, n, some), device) for n in (1, 2))  # type: ignore[misc]
        found[f"waits of the host an epoch, {how}"] = None if once is None or twice is None else twice - once
    yield dict(found)


def host_waits(action: Callable[[], object], device: str) -> int | None:
    """How often the host waits for the device, by torch's own count; None where torch does not count."""
    if not device.startswith("cuda"):
        return None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    # Not "synchroniz": torch also warns, once a process, that this mode does not see all of them.
    return sum("called a synchronizing" in str(each.message) for each in told)


def many(
    size: tuple[int, int], device: str, rounds: int, *, trials: int = TRIALS, epochs: int = EPOCHS, dim: int = D
) -> Found:
    """Seconds of five epochs of one trial, and of so many trials at once that differ in rate and seed."""
    from lab.training.loop import train
    from lab.training.stacked import Member, train_stack

    texts, videos = features(*size, FRAMES, dim, device)
    few = texts.select(torch.arange(min(len(texts), FEW * BATCH + 1)))

    def alone(on: Texts = texts, epochs: int = epochs) -> None:
        train(_head(dim), on, videos, Recipe(epochs=epochs, batch=BATCH))

    def together(on: Texts = texts, epochs: int = epochs) -> None:
        recipes = [Recipe(epochs=epochs, batch=BATCH, lr=1e-4 * (1 + i / trials), seed=i) for i in range(trials)]
        for _, outcome in train_stack([Member(_head(dim), recipe) for recipe in recipes], on, videos):
            if isinstance(outcome, Exception):
                raise outcome

    alone(few, 1), together(few, 1)
    one, all_ = (seconds(action, device, rounds) for action in (alone, together))
    return {"one": one, f"{trials} at once": all_, "over one": all_ / one}


def scoring(size: tuple[int, int], device: str, rounds: int, *, dim: int = D) -> Found:
    """Milliseconds of X-Pool's exact scoring, the matrix left on the device or not, and of its two bare products."""
    texts, videos = features(*size, FRAMES, dim, device)
    head = _head(dim).to(device)
    keys, values = (torch.randn(size[0] * FRAMES, dim, device=device) for _ in range(2))

    def products() -> None:
        for rows in texts.sentences.split(4096):
            keys @ rows.T, values @ rows.T

    actions: dict[str, Callable[[], object]] = {
        "on the device": lambda: similarity_matrix(head, texts, videos, to=device),
        "brought to the host": lambda: similarity_matrix(head, texts, videos),
        "two bare products": products,
    }
    return {name: 1e3 * seconds(action, device, 3 * rounds, before=3) for name, action in actions.items()}


def encoding(device: str, rounds: int, *, spec: str = "random", precision: str = "fp16", count: int = 4096) -> Found:
    """Pictures a second of units of 192, as the pass has them encoded, and of the bare model at each batch."""
    from lab.backbones import load_clip
    from lab.backbones.devices import DTYPES, exact_numerics

    clip = load_clip(spec, device=device, precision=precision)
    size, dtype = clip.image.size, DTYPES[precision]
    pictures = np.random.default_rng(0).integers(0, 256, (192, size, size, 3), dtype=np.uint8)
    units = max(1, count // len(pictures))
    bare: dict[str, float] = {}
    for batch in (each for each in BATCHES if each <= count):
        pixels = torch.randn(batch, 3, size, size, device=device, dtype=dtype)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        times = max(1, count // batch)

        def run(pixels: torch.Tensor = pixels, times: int = times) -> None:
            with exact_numerics(clip.device):
                for _ in range(times):
                    clip._visual(pixels)

        bare[str(batch)] = batch * times / seconds(run, device, rounds, before=1)

    def ours() -> None:
        before = clip.launch_frames(pictures)
        for _ in range(units - 1):  # a unit is begun before the one before it is waited for
            begun = clip.launch_frames(pictures)
            before()
            before = begun
        before()

    rate = units * len(pictures) / seconds(ours, device, rounds, before=1)
    return {"pictures/s": rate, "bare, by batch": bare, "over bare": rate / max(bare.values())}


def passing(device: str, *, clips: int = 640, networks: str = "random", precision: str = "fp16") -> Found:
    """Seconds of a unit of 16 videos in the pass and in its stages, and the pass's rate over its slower stage's."""
    import cache  # the benchmark beside this one

    from lab.extraction.plan import Options

    given = {"clips": clips, "clip": networks, "panns": networks, "device": device, "precision": precision}
    workers = Options("folder").workers
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as base:
        took = cache.measure(Path(base), argparse.Namespace(workers=workers, **given))
    slower = max(took["decoding alone, wall"], took["encoding alone, wall"])
    return {
        "seconds": took,
        "over the slower stage": slower / took["end to end"],
        "unit": cache.UNIT_VIDEOS,
        "workers": workers,
        **given,
    }
