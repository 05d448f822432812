"""What a typed query costs: the text tower, the scores of all videos, and the five best with what they look at.

    python benchmarks/search.py [--videos 1970]

Prints and writes benchmarks/results/search.json. The videos are as many as MSVD has, of random features with 12 frames,
as wide as the toy CLIP's, which encodes the queries; 512 wide, as CLIP's, the scores cost more: that is measured beside
it on the bare features. All times are medians over queries that were not asked before.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from envelope import write

from lab.backbones import load_clip
from lab.choose import Candidate
from lab.datasets import Caption, Collection, Video
from lab.embeddings import Texts
from lab.query import Encoder
from lab.search import Searcher
from lab.store import open_store
from lab.store.create import create_store
from lab.store.writer import AudioRow, FrameRow, StoreWriter
from lab.training.task import head_for

FRAMES, AUDIO, UNIT, LIMIT_MS = 12, 256, 16, 150
HEADS = {"mean": {}, "topk": {}, "softmax": {}, "xpool": {}, "mgfi": {}, "cmfi": {}}
TEXT = "a dog barks in the dark while rain falls on two red cars that cross from left to right among trees"


def make(root: Path, videos: int, dim: int, passport: dict[str, object]) -> Path:
    """A store of random features under the toy CLIP's passport."""
    rng = np.random.default_rng(0)
    names = tuple(Video(f"v{v:04d}", None, {"made": "test"}) for v in range(videos))
    collection = Collection("made", root, names, (Caption(0, "a dog", {"made": "test"}),), ("made",), ())
    store = create_store(root / f"made-{dim}.zarr", collection, {"name": "made"})
    writer = StoreWriter(store.path)
    writer.add_frames({**passport, "sampling": "midpoints-12", "dtype": "float16"}, FRAMES, dim)
    writer.add_text(
        {k: v for k, v in passport.items() if k != "image"}, dim, np.ones(1, np.int64), np.zeros(1), np.zeros(1)
    )
    writer.add_audio({"model": "none", "random": True}, 2, AUDIO)
    times = np.arange(FRAMES) / 2
    for first in range(0, videos, UNIT):
        count = min(UNIT, videos - first)
        frames = rng.normal(size=(count, FRAMES, dim)).astype(np.float32)
        sound = rng.normal(size=(count, 2, AUDIO)).astype(np.float32)
        writer.write_frames(first, [FrameRow(one, times, (), 6.0) for one in frames])
        writer.write_audio(first, [AudioRow(one[0], one, "present") for one in sound])
    return store.path


def median_ms(action: Callable[[int], object], runs: int) -> float:
    """Of so many calls, each with its number, after two that do not count."""
    taken = []
    for i in range(runs + 2):
        start = time.perf_counter()
        action(i)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[2:])


def query(i: int) -> str:
    """Ten words, others each time."""
    return " ".join(np.random.default_rng(i).permutation(TEXT.split())[:10])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1970)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clip = load_clip("toy")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(make(Path(folder), given.videos, clip.dim, clip.passport))
        encoder = Encoder(store)
        wide = open_store(make(Path(folder), given.videos, 512, {"name": "none", "random": True}))
        for name, keywords in HEADS.items():
            start = time.perf_counter()
            searcher = Searcher(store, Candidate(head_for(store, name, keywords)[0], name), encoder=encoder)
            index = time.perf_counter() - start
            other = Searcher(wide, Candidate(head_for(wide, name, keywords)[0], name))
            texts = Texts(torch.randn(1, 512), torch.randn(1, 10, 512))
            found[name] = {
                "index_s": index,
                "query_ms": median_ms(lambda i, it=searcher: it.search(query(i)), given.runs),  # type: ignore[misc]
                "encode_ms": median_ms(lambda i: encoder(query(1000 + i)), given.runs),
                "scores_512_ms": median_ms(lambda i, it=other, of=texts: it.scores(of), given.runs),  # type: ignore[misc]
            }
    print(f"{given.videos} videos × {FRAMES} × {clip.dim}, {given.threads} threads; medians of {given.runs} queries")
    for name, told in found.items():
        parts = f"{told['encode_ms']:.1f} of it the text tower; index {told['index_s']:.2f} s"
        print(
            f"{told['query_ms']:8.1f} ms a query ({parts}; scores at D = 512: {told['scores_512_ms']:.1f} ms): {name}"
        )
    worst = max(told["query_ms"] for told in found.values())
    print(f"{worst:8.1f} ms at most ({LIMIT_MS} or less)")
    write("search", {"heads": found, "worst_query_ms": worst}, videos=given.videos, frames=FRAMES, dim=clip.dim,
          threads=given.threads, runs=given.runs, limit_ms=LIMIT_MS)  # fmt: skip


if __name__ == "__main__":
    main()
