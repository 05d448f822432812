"""How fast a store is read, beside numpy.load of the same bytes in the same run, and what ragged words save.

python benchmarks/store.py
python benchmarks/store.py --captions captions_msvd.json

Prints medians and writes benchmarks/results/store.json. The store is synthetic, of MSR-VTT 1k-A's size: 10,000 videos ×
12 frames × 512 and a share of its captions with words; what is loaded is one split of 9,000 videos.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import envelope
import numpy as np
import torch

from lab import Store, open_store
from lab.convert.pack import pack_store
from lab.datasets import Caption, Collection, Video
from lab.store import UNIT_CAPTIONS, UNIT_VIDEOS
from lab.store.create import create_store
from lab.store.writer import FrameRow, StoreWriter

V, F, D, T = 10_000, 12, 512, 20_000
TOKENS = 77


def synthetic(path: Path, rng: np.random.Generator) -> Store:
    """A store of V videos and T captions of 4 to 16 tokens, filled as a pass would fill it."""
    splits = [{"p": "train"} if i < 9_000 else {"p": "test"} for i in range(V)]
    videos = tuple(Video(f"v{i:05d}", None, splits[i]) for i in range(V))
    captions = tuple(Caption(i // 2, "", splits[i // 2]) for i in range(T))
    create_store(path, Collection("bench", path.parent, videos, captions, ("p",), ()), {"name": "bench"})
    writer = StoreWriter(path)
    counts = rng.integers(4, 17, T)
    writer.add_frames({}, F, D)
    writer.add_text({}, D, counts, np.zeros(counts.sum()), np.zeros(counts.sum()))
    block = rng.standard_normal((UNIT_VIDEOS, F, D)).astype(np.float32)
    for first in range(0, V, UNIT_VIDEOS):
        writer.write_frames(first, [FrameRow(row, np.arange(F, dtype=float), (), 1.0) for row in block[: V - first]])
    for first in range(0, T, UNIT_CAPTIONS):
        rows = np.arange(first, min(first + UNIT_CAPTIONS, T))
        words = rng.standard_normal((int(counts[rows].sum()), D)).astype(np.float32)
        writer.write_text(rows, words[: len(rows)], words)
    return open_store(path)


def median_s(action: Callable[[], object], runs: int) -> float:
    """Median wall time of an action, after one run that does not count."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def words_share(captions: Path) -> dict[str, float]:
    """Bytes of the ragged words, unit padding included, over those of words padded to 77 tokens."""
    from lab.backbones.words import bpe, tokenize

    texts = [text for group in json.loads(captions.read_text()).values() for text in group]
    counts = np.asarray(tokenize(texts, bpe(), TOKENS).counts)
    units = np.arange(len(counts)) // UNIT_CAPTIONS
    laid_out = (units[-1] + 1) * int(np.bincount(units, weights=counts).max())
    return {
        "captions": len(texts),
        "ragged": counts.sum() / len(texts) / TOKENS,
        "as laid out": laid_out / len(texts) / TOKENS,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, help="tell the share of ragged words of this file alone")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    if given.captions:
        words = words_share(given.captions)
        for name, value in words.items():
            print(f"words, {name}: {value:.4g}")
        envelope.write("words", words, captions=given.captions.name)
        return
    base = Path(tempfile.mkdtemp(prefix="bench-store-"))
    try:
        plain = synthetic(base / "plain.zarr", np.random.default_rng(0))
        texts, videos = plain.load("train", dtype=torch.float16)
        arrays = {
            "frames": videos.frames.numpy(),
            "sentences": texts.sentences.numpy(),
            "words": texts.words.values.numpy(),
        }
        for name, values in arrays.items():
            np.save(base / f"{name}.npy", values)
        size = sum(values.nbytes for values in arrays.values())
        packed = pack_store(plain, base / "packed.zarr", 1024)
        plain.captions, packed.captions  # noqa: B018 - the tables are parsed once per open store, and told apart below
        rows = {
            "numpy.load": median_s(lambda: [np.load(base / f"{name}.npy") for name in arrays], given.runs),
            "store.load, as stored": median_s(lambda: plain.load("train", dtype=torch.float16), given.runs),
            "store.load, float32": median_s(lambda: plain.load("train"), given.runs),
            "store.load, as stored, sharded": median_s(lambda: packed.load("train", dtype=torch.float16), given.runs),
            "open and read the tables": median_s(lambda: len(open_store(base / "plain.zarr").captions), given.runs),
        }
        reference = rows["numpy.load"]
        machine = platform.processor() or platform.machine()
        print(f"{size / 1e6:.0f} MB of one split ({machine}, torch {torch.__version__})")
        for name, seconds in rows.items():
            rate, share = size / seconds / 1e9, reference / seconds
            print(f"{name:34}{seconds * 1e3:8.0f} ms {rate:6.2f} GB/s   {share:5.2f} of numpy.load")
        envelope.write("store", {"bytes": size, "seconds": rows}, runs=given.runs)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
