"""Are the phenomena of the papers in a toy world? Heads trained on train, chosen on val, held against each other.

    python benchmarks/phenomena.py --dataset toy --split val
    python benchmarks/phenomena.py --store /tmp/features/toy-1-toy-midpoints-12.zarr --split test

Mean pooling, top-k (k by validation), X-Pool, MGFI and CMFI over that same MGFI, each trained with several
seeds; ranks of all seeds enter each paired test, which draws videos. Only the split that is named
is reported; a read of a test split is logged beside the store. Writes benchmarks/results/phenomena-STORE-SPLIT.json.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import envelope
import numpy as np
from numpy.typing import NDArray

from lab import truth
from lab.cli import bar, table
from lab.metrics import ranks, retrieval_metrics
from lab.reads import Reader, count_reads, load_split
from lab.significance import bootstrap_interval, paired_test
from lab.similarity import similarity_matrix
from lab.store import Store, open_store
from lab.store.find import find_store
from lab.training.loop import train
from lab.training.task import head_for, prepare

K = range(1, 7)
#: CMFI's sound is trained at one fusion weight and weighed at another; both are from development worlds. A validation
#: split of 100 videos would choose larger ones than a test split of 400 can bear, in which more videos are nearly even.
TRAINED_AT, WEIGHED_AT = 0.1, 0.0125
#: question -> the two heads, and which captions: True those that need the sound, False the others, None all.
QUESTIONS = {
    "top-k above mean": ("topk", "mean", None),
    "X-Pool above top-k": ("xpool", "topk", None),
    "MGFI above top-k": ("mgfi", "topk", None),
    "CMFI above its video-only twin, needs the sound": ("cmfi", "mgfi", True),
    "CMFI against its twin, does not need it": ("cmfi", "mgfi", False),
}

Ranks = NDArray[np.floating[Any]]


def main() -> None:
    """Train, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="toy")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--features", type=Path, default=Path("features"))
    parser.add_argument("--split", default="val")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    store = open_store(given.store) if given.store else find_store(given.features, given.dataset)
    started = time.perf_counter()

    heads = bare_heads(store, given.seeds) | trained_heads(store, given.seeds)
    before = count_reads(store, given.split)
    reader = Reader("benchmarks/phenomena.py", "mean topk xpool mgfi cmfi")
    texts, videos = load_split(store, given.split, needs=heads["cmfi"][0], reader=reader)
    target = texts.video.numpy()
    found = {
        name: np.stack([ranks(similarity_matrix(head, texts, videos), target) for head in seeds])
        for name, seeds in heads.items()
    }
    looks = {
        name: truth.against_truth(seeds[0], store, texts, videos, rank=found[name][0]) for name, seeds in heads.items()
    }
    needs = looks["mean"].needs_sound == 1
    results = {name: result_of(rank, target, needs, looks[name].attention()) for name, rank in found.items()}
    tests = {
        text: paired_test(found[a], found[b], target, where=None if sound is None else needs == sound)
        for text, (a, b, sound) in QUESTIONS.items()
    }

    top_k = heads["topk"][0].top_k
    print_heads(results)
    print(
        f"uniform attention on the told seconds: {results['mean']['of uniform weights']:.2f}; k = {top_k} by "
        f"validation, {given.seeds} seeds, {store.path.name}, {given.split}: {len(target)} captions, {needs.sum()} of "
        "them need the sound"
    )
    print_tests(tests)
    content = {
        "store": store.path.name,
        "passport": store.passport,
        "split": given.split,
        "seeds": given.seeds,
        "reads before": before,
        "attention": "of the first seed",
        "top_k": top_k,
        "trained at": TRAINED_AT,
        "weighed at": WEIGHED_AT,
        "seconds": round(time.perf_counter() - started),
        "heads": results,
        "tests": {text: asdict(test) for text, test in tests.items()},
    }
    out = envelope.write(f"phenomena-{store.path.stem}-{given.split}", content)
    print(f"{out}, {content['seconds']} s")


def bare_heads(store: Store, seeds: int) -> dict[str, list[Any]]:
    """Mean pooling, and top-k with the k that validation likes best (the smaller of two that it likes as well)."""
    mean = head_for(store, "mean", {})[0]
    val = load_split(store, "val", needs=mean)
    every = [head_for(store, "topk", {"top_k": k})[0] for k in K]
    topk = max(every, key=lambda h: retrieval_metrics(similarity_matrix(h, *val), val[0].video.numpy())["R@1"])
    return {"mean": [mean] * seeds, "topk": [topk] * seeds}


def trained_heads(store: Store, seeds: int) -> dict[str, list[Any]]:
    """X-Pool, MGFI and CMFI, one of each seed. CMFI's first stage is MGFI's training: the video-only twin."""
    trained: dict[str, list[Any]] = {"xpool": [], "mgfi": [], "cmfi": []}
    asked: dict[str, dict[str, Any]] = {"xpool": {}, "cmfi": {"video": "mgfi", "fusion_weight": TRAINED_AT}}
    with bar(seeds * len(asked), "trainings", "head") as done:
        for seed, (name, keywords) in product(range(seeds), asked.items()):
            task = prepare(store, name, recipe={"seed": seed}, keywords=keywords)
            train(task.head, *task.training, task.recipe, validation=task.validation)
            trained[name].append(task.head)
            done.update()
    for head in trained["cmfi"]:
        head.fusion_weight = WEIGHED_AT
        trained["mgfi"].append(head.video)
    return trained


def result_of(rank: Ranks, target: NDArray[Any], needs: NDArray[np.bool_], looked: dict[str, Any]) -> dict[str, Any]:
    """What is written of a head, from its ranks (seeds, T) and its attention on the told seconds."""
    parts = {"all": None, "needs sound": needs, "does not": ~needs}
    return {
        "R@1": {part: asdict(bootstrap_interval(rank, target, where=where)) for part, where in parts.items()},
        "R@1 by seed": [float(100 * (one <= 1).mean()) for one in rank],
        "R@5": float(100 * (rank <= 5).mean()),
        "MdR": float(np.median(rank)),
        "attention on the told seconds": asdict(looked["mass"]) if looked else None,
        "of uniform weights": looked["uniform"].value if looked else None,
    }


def print_heads(results: dict[str, dict[str, Any]]) -> None:
    """R@1 of each head, and how much of its attention lies on the told seconds."""
    rows = []
    for name, result in results.items():
        looked = result["attention on the told seconds"]
        cells = [f"{part['value']:.1f} [{part['low']:.1f}, {part['high']:.1f}]" for part in result["R@1"].values()]
        rows.append([name, *cells, f"{looked['value']:.2f}" if looked else "-"])
    print(table(["head", "R@1", "R@1, needs the sound", "R@1, does not", "attention on the told, first seed"], rows))


def print_tests(tests: dict[str, Any]) -> None:
    """The answer to each question, in points of R@1."""
    print(table(
        ["question (R@1)", "difference", "95 % interval", "lower 95 % bound", "p"],
        [[text, f"{test.difference:+.1f}", f"{test.low:+.1f} .. {test.high:+.1f}", f"{test.lower_bound:+.1f}",
          f"{test.p_value:.4f}"] for text, test in tests.items()],
    ))  # fmt: skip


if __name__ == "__main__":
    main()
