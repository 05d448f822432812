"""What bf16 changes: heads trained in it and in float32 from the same seeds, beside what another seed changes.

python benchmarks/precision.py [--store features/toy-toy-midpoints-12.zarr] [--heads xpool mgfi] [--seeds 3]

On the validation split of a store, preset ``frozen`` for two epochs. The gap of a seed is R@1 in bf16 less R@1 in
float32; bf16 changes nothing that can be told from noise where the mean gap is below twice its standard error. On a CPU
autocast rounds the same operations to the same eight bits as on a GPU, so it tells of accuracy there, not of speed.
Writes results/precision.json, on a GPU results/precision_gpu.json.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import envelope

from lab.device import pick_device
from lab.store import Store
from lab.training.task import prepare, train_on

RELEASE = Path("features/toy-toy-midpoints-12.zarr")


def recall(store: Store, head: str, seed: int, precision: str, given: argparse.Namespace) -> tuple[float, float]:
    """R@1 on validation at the epoch that is kept, and the mean loss of the last."""
    recipe: dict[str, Any] = {"seed": seed, "precision": precision, "epochs": given.epochs}
    history = train_on(prepare(store, head, recipe=recipe, device=given.device)).history
    return history.kept.metrics["R@1"], history.epochs[-1].loss


def compared(store: Store, head: str, given: argparse.Namespace) -> dict[str, Any]:
    """Both precisions under each seed, the gaps, and the spread of seeds in float32."""
    full = [recall(store, head, seed, "fp32", given) for seed in range(given.seeds)]
    half = [recall(store, head, seed, "bf16", given) for seed in range(given.seeds)]
    gaps = [b - a for (a, _), (b, _) in zip(full, half, strict=True)]
    return {
        "fp32 R@1": [value for value, _ in full],
        "bf16 R@1": [value for value, _ in half],
        "gap": statistics.mean(gaps),
        "standard error of the gap": statistics.stdev(gaps) / len(gaps) ** 0.5,
        "standard deviation over seeds, fp32": statistics.stdev(value for value, _ in full),
        "losses apart, relative": max(abs(b / a - 1) for (_, a), (_, b) in zip(full, half, strict=True)),
    }


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=RELEASE, help="default: %(default)s, which make demo makes")
    parser.add_argument("--heads", nargs="+", default=["xpool", "mgfi"])
    parser.add_argument("--seeds", type=int, default=3, help="two or more; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error(f"--seeds must be 2 or more to tell their noise, got {given.seeds}")
    if not given.store.exists():
        parser.error(f"{given.store} is not there: make demo makes the toy store, --store names another")
    device, store, found = pick_device(given.device), Store(given.store), {}
    for head in given.heads:
        found[head] = told = compared(store, head, given)
        print(
            f"{head}: bf16 changes R@1 by {told['gap']:+.2f} ± {told['standard error of the gap']:.2f} over "
            f"{given.seeds} seeds, which differ by {told['standard deviation over seeds, fp32']:.2f} (one standard "
            f"deviation) in float32; losses at most {100 * told['losses apart, relative']:.2f} % apart"
        )
    name, settings = (
        "precision_gpu" if device.type == "cuda" else "precision",
        vars(given) | {"store": given.store.name},
    )
    envelope.write(name, found, **settings | {"device": str(device), "split": "val"})


if __name__ == "__main__":
    main()
