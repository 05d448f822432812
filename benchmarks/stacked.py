"""How fast many trials train at once, beside one of them and beside all of them one after another.

python benchmarks/stacked.py [--device cuda] [--trials 16] [--steps 40] [--rounds 3]

X-Pool with synthetic features of three sizes, batch 32; the trials differ in rate and seed. First all are trained both
ways in float32 without dropout: their mean losses must agree to 1e-3, or nothing is printed. Then with dropout and the
device's own precision: medians of rounds in which the three ways are timed in turn. Writes results/stacked.json, on a
GPU results/stacked_gpu.json.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import envelope
import torch
from made import features, in_turns

from lab import Texts, Videos, build_head
from lab.device import pick_device
from lab.training.loop import train
from lab.training.recipe import Recipe
from lab.training.stacked import Member, Outcome, train_stack
from lab.training.stages import History

BATCH, AGREE = 32, 1e-3
#: name → videos, frames, D
SIZES = {"MSVD size": (1200, 12, 512), "toy size": (1200, 12, 256), "small": (500, 8, 64)}


def members(size: str, trials: int, dropout: float, **recipe: Any) -> list[Member]:
    """Trials between two rates, each with a seed of its own."""
    return [
        Member(
            build_head("xpool", SIZES[size][2], dropout=dropout),
            Recipe(epochs=1, batch=BATCH, lr=1e-5 * 10 ** (2 * i / trials), seed=i, **recipe),
        )
        for i in range(trials)
    ]


def alone(some: list[Member], texts: Texts, videos: Videos) -> list[float]:
    """Their losses, one after another."""
    return [train(member.head, texts, videos, member.recipe).kept.loss for member in some]


def together(some: list[Member], texts: Texts, videos: Videos) -> list[float]:
    """Their losses, all at once."""
    ended: dict[int, Outcome] = dict(train_stack(some, texts, videos))
    histories = [ended[number] for number in range(len(some))]
    return [history.kept.loss for history in histories if isinstance(history, History)]


def measure(size: str, device: torch.device, trials: int, steps: int, rounds: int) -> dict[str, Any]:
    """One size: how far the losses are apart, and medians of all that is timed."""
    V, F, D = SIZES[size]
    texts, videos = features(V, steps * BATCH, F, D, device)
    exact = {"precision": "fp32", "dropout": 0.0}
    pairs = zip(
        alone(members(size, trials, **exact), texts, videos),
        together(members(size, trials, **exact), texts, videos),
        strict=True,
    )
    apart = max(abs(one - other) for one, other in pairs)
    assert apart <= AGREE, f"{size}: the mean losses differ by {apart:.2g}"
    ways: dict[str, Callable[[], object]] = {
        "one": lambda: alone(members(size, 1, 0.3), texts, videos),
        "one after another": lambda: alone(members(size, trials, 0.3), texts, videos),
        "at once": lambda: together(members(size, trials, 0.3), texts, videos),
    }
    took = {name: statistics.median(each) for name, each in in_turns(ways, rounds, device).items()}
    found = {"seconds": took, "apart": apart, "over one": took["at once"] / took["one"]}
    return found | {"gain": took["one after another"] / took["at once"]}


def main() -> None:
    """Checks, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--steps", type=int, help="of each trial (default: 40, on a GPU 1000)")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    device = pick_device(given.device)
    given.steps = given.steps or (40 if device.type == "cpu" else 1000)
    results = {}
    for size in SIZES:
        found = results[size] = measure(size, device, given.trials, given.steps, given.rounds)
        print(f"{size}: {given.trials} trials at once take {found['seconds']['at once']:.2f} s, "
              f"{found['over one']:.1f} × one of them; {found['gain']:.2f} × as fast as one after another "
              f"(losses at most {found['apart']:.1g} apart)")  # fmt: skip
    name = "stacked" if device.type == "cpu" else "stacked_gpu"  # the README's row of a GPU is from gpu.py
    settings = {"batch": BATCH, "trials": given.trials, "steps": given.steps, "rounds": given.rounds}
    envelope.write(name, results, device=str(device), threads=torch.get_num_threads(), **settings)


if __name__ == "__main__":
    main()
