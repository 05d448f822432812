"""What a GPU does: training eagerly, as CUDA graphs and many at once; exact scoring; the image tower.

python benchmarks/gpu.py [--device cuda] [--rounds 3] [--only PART ...]

Parts, the cheap ones first: scoring, encoding, trials, msvd, msrvtt. Each is printed and written to
benchmarks/results/gpu.json as soon as it is measured, beside the parts that are there from the same GPU, versions and
rounds. Says so in one line where there is no GPU. Synthetic features at D = 512, F = 12: scoring of MSVD's test (670
videos, 27,763 texts) in float32, the matrix left on the GPU and brought to the host; ViT-B/32 with random weights,
decoding excluded, beside the bare model at its best batch; X-Pool, batch 32: 16 trials at once, and five epochs of
MSVD's size (1,200 videos, 48,774 captions) and MSR-VTT-9k's (9,000 videos, 180,000 captions). How often the host waits
is counted by torch.cuda.set_sync_debug_mode, in trainings that are not timed. Not run yet: no GPU was at hand.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import envelope
import numpy as np
import torch
from torch import nn

from lab import Texts, Videos, build_head, similarity_matrix
from lab.recipe import Recipe
from lab.stacked import Member, train_stack
from lab.train import train

D, FRAMES, BATCH, EPOCHS, TRIALS = 512, 12, 32, 5, 16
#: (videos, texts)
SIZES = {"MSVD": (1200, 48_774), "MSR-VTT-9k": (9000, 180_000)}
TEST = (670, 27_763)
BATCHES = (64, 128, 256, 512, 1024)


def features(videos: int, texts: int, device: str, dim: int = D) -> tuple[Texts, Videos]:
    """Captions with a little of their video's frames in them; videos of 4 to 12 frames."""
    made = torch.Generator().manual_seed(0)
    subject = torch.randn(videos, 1, dim, generator=made)
    frames = subject + torch.randn(videos, FRAMES, dim, generator=made)
    count = torch.randint(4, FRAMES + 1, (videos, 1), generator=made)
    video = torch.randint(videos, (texts,), generator=made)
    sentences = 0.08 * subject[video, 0] + torch.randn(texts, dim, generator=made)
    return Texts(sentences, video=video).to(device), Videos(frames, torch.arange(FRAMES) < count).to(device)


def seconds(action: Callable[[], object], device: str, rounds: int, *, before: int = 1) -> float:
    """Median wall time, the device's work included, after rounds that do not count."""
    times = []
    for _ in range(rounds + before):
        _wait(device)
        start = time.perf_counter()
        action()
        _wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[before:])


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def training(
    size: tuple[int, int], device: str, rounds: int, *, checked: bool, epochs: int = EPOCHS, dim: int = D
) -> dict[str, Any]:
    """Seconds of five epochs, captured and eager.

    If ``checked``, also how far their losses are apart, and how often the host waits: six more short trainings.
    """
    texts, videos = features(*size, device, dim)

    def run(capture: bool, epochs: int = epochs, dropout: float = 0.3) -> list[float]:
        recipe = Recipe(epochs=epochs, batch=BATCH)
        history = train(_head(dim, dropout), texts, videos, recipe, capture=capture)
        return [epoch.loss for epoch in history.epochs]

    captured = seconds(lambda: run(True), device, rounds)
    eager = seconds(lambda: run(False), device, 1, before=0)  # its kernels are those of the rounds before
    found: dict[str, Any] = {
        "seconds": {"captured": captured, "eager": eager},
        "eager over captured": eager / captured,
        "steps an epoch": -(-len(texts) // BATCH),
    }
    if checked:
        apart = zip(run(True, 2, 0), run(False, 2, 0), strict=True)
        found["losses apart, no dropout"] = max(abs(a - b) for a, b in apart)
        for how, capture in (("captured", True), ("eager", False)):
            once, twice = (host_waits(lambda n=n, c=capture: run(c, n), device) for n in (1, 2))  # type: ignore[misc]
            found[f"waits of the host an epoch, {how}"] = None if once is None or twice is None else twice - once
    return found


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


def many(size: tuple[int, int], device: str, rounds: int, *, trials: int = TRIALS, dim: int = D) -> dict[str, float]:
    """Seconds of one epoch of one trial, and of so many trials at once that differ in rate and seed."""
    texts, videos = features(*size, device, dim)

    def together(count: int) -> None:
        recipes = [Recipe(epochs=1, batch=BATCH, lr=1e-4 * (1 + i / count), seed=i) for i in range(count)]
        for _, outcome in train_stack([Member(_head(dim), recipe) for recipe in recipes], texts, videos):
            if isinstance(outcome, Exception):
                raise outcome

    one = seconds(lambda: train(_head(dim), texts, videos, Recipe(epochs=1, batch=BATCH)), device, rounds)
    all_ = seconds(lambda: together(trials), device, rounds)
    return {"one": one, f"{trials} at once": all_, "over one": all_ / one}


def scoring(size: tuple[int, int], device: str, rounds: int, *, dim: int = D) -> dict[str, float]:
    """Milliseconds of X-Pool's exact scoring, the matrix left on the device or not, and of its two bare products."""
    texts, videos = features(*size, device, dim)
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
    return {name: 1e3 * seconds(action, device, rounds) for name, action in actions.items()}


def encoding(
    device: str, rounds: int, *, spec: str = "random", precision: str = "fp16", count: int = 1024
) -> dict[str, Any]:
    """Pictures a second of ``encode_frames``, by units of 192, and of the bare model at each batch."""
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

        bare[str(batch)] = batch * times / seconds(run, device, rounds)

    def ours() -> None:
        waiting = [clip.launch_frames(pictures) for _ in range(units)]
        for wait in waiting:
            wait()

    rate = units * len(pictures) / seconds(ours, device, rounds)
    return {"pictures/s": rate, "bare, by batch": bare, "over bare": rate / max(bare.values()), "precision": precision}


def _head(dim: int, dropout: float = 0.3) -> nn.Module:
    return build_head("xpool", dim, dropout=dropout)


#: The cheap ones first: a GPU may be lent for minutes.
PARTS: dict[str, Callable[[str, int], dict[str, dict[str, Any]]]] = {
    "scoring": lambda device, rounds: {"scoring_ms": scoring(TEST, device, rounds)},
    "encoding": lambda device, rounds: {
        "encoding": {how: encoding(device, rounds, precision=how) for how in ("fp32", "fp16")}
    },
    "trials": lambda device, rounds: {"trials": many(SIZES["MSVD"], device, rounds)},
    "msvd": lambda device, rounds: {"training": {"MSVD": training(SIZES["MSVD"], device, rounds, checked=True)}},
    "msrvtt": lambda device, rounds: {
        "training": {"MSR-VTT-9k": training(SIZES["MSR-VTT-9k"], device, rounds, checked=False)}
    },
}


def measure(parts: Iterable[str], device: str, rounds: int) -> None:
    """Measures, prints and writes one part after the other; one that needs a package that is not here is left out."""
    for name in parts:
        try:
            found = PARTS[name](device, rounds)
        except ModuleNotFoundError as error:
            print(f"{name}: not measured, {error.name} is not installed", flush=True)
            continue
        print(name, found, flush=True)
        results = earlier(device, rounds)
        for key, value in found.items():
            results[key] = results.get(key, {}) | value
        envelope.write("gpu", results, device=device, rounds=rounds)


def earlier(device: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Results of the same GPU, versions and rounds that are there; others have no place in one file with new ones."""
    file = envelope.RESULTS / "gpu.json"
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    here = {"device": envelope.describe(device), "versions": envelope.versions(), "settings": {"rounds": rounds}}
    found: dict[str, dict[str, Any]] = told["results"] if here.items() <= told.items() else {}
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="some parts alone")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py: torch sees no GPU, nothing was measured")
        return
    measure([name for name in PARTS if name in given.only], given.device, given.rounds)


if __name__ == "__main__":
    main()
