"""What exact scoring costs: beside the direct formula, beside the bare matrix products inside it, and in memory.

python benchmarks/score.py [--texts 27763 --videos 670]

Prints and writes benchmarks/results/score.json. Features are random, of the size of MSVD's test split: 670 videos ×
27,763 texts × 12 frames × 512. All times of one table are taken in turns in one run; the direct formula on a slice of
the texts. Memory is the high-water mark beyond the inputs, in a process of its own; the result matrix is part of it.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import envelope
import torch
from made import in_turns
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab import RaggedWords, Texts, Videos, build_head, similarity_matrix
from lab.heads import HEADS
from lab.heads.sweep import sweep
from lab.heads.xpool import XPool
from lab.similarity import evaluating
from lab.tiles import TILE

FRAMES, DIM, WORDS, AUDIO = 12, 512, 10, 2048
TEMPERATURES = [2.0**i / 1024 for i in range(16)]
TILES = (4, 16, 64)
#: MSR-VTT full.
FULL_VIDEOS, FULL_TEXTS = 2990, 59_800


def features(texts: int, videos: int, whole: bool = False) -> tuple[Texts, Videos]:
    """Raw features with likenesses as in a video; words and sound too if ``whole``."""
    torch.manual_seed(0)
    frames = torch.randn(videos, 1, DIM) + 0.5 * torch.randn(videos, FRAMES, DIM)
    sentences = torch.randn(texts, DIM)
    if not whole:
        return Texts(sentences), Videos(frames)
    counts = torch.randint(4, 2 * WORDS - 3, (texts,))
    words = RaggedWords(torch.randn(int(counts.sum()), DIM).half(), counts.cumsum(0) - counts, counts)
    return Texts(sentences, words), Videos(frames, audio=torch.randn(videos, 1, AUDIO))


def head_of(name: str, **keywords: object) -> nn.Module:
    """A head whose weights are not those of its start."""
    torch.manual_seed(1)
    head = build_head(name, DIM, **keywords).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return head


def direct(head: XPool, sentences: Tensor, frames: Tensor) -> Tensor:
    """Equations 9 to 14 of X-Pool, batched in the plainest way."""
    text, video = head.norm_in(sentences), head.norm_in(frames)
    logits = torch.einsum("td,vfd->tvf", head.query(text), head.key(video)) / math.sqrt(DIM)
    attended = torch.einsum("tvf,vfd->tvd", logits.softmax(-1), head.value(video))
    pooled = head.norm_pooled(head.out(attended))
    seen = head.norm_out(head.residual(pooled) + pooled)
    return torch.einsum("td,tvd->tv", F.normalize(sentences, dim=-1), F.normalize(seen, dim=-1))


def seconds(actions: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Medians, after a round that does not count."""
    return {name: statistics.median(taken) for name, taken in in_turns(actions, runs, before=1).items()}


def xpool(texts: Texts, videos: Videos, given: argparse.Namespace) -> dict[str, float]:
    """X-Pool's scoring, the direct formula and the two products inside it; and how far the first two differ."""
    head = head_of("xpool")
    assert isinstance(head, XPool)
    slice_ = texts.sentences[: given.slice]
    with evaluating(head):
        index = head.index(videos)
        keys, values = index.keys.flatten(0, 1), index.values.flatten(0, 1)

        def products() -> None:
            for rows in texts.sentences.split(TILE):
                keys @ rows.T, values @ rows.T

        def tiles(size: int) -> Tensor:
            return torch.cat([direct(head, rows, videos.frames) for rows in slice_.split(size)])

        one = texts.select(torch.tensor([0]))
        found = seconds({"score": lambda: similarity_matrix(head, texts, videos), "products": products}, given.runs)
        slow = seconds({str(size): lambda size=size: tiles(size) for size in TILES}, 1)  # type: ignore[misc]
        found["query"] = seconds({"query": lambda: head.score(one, index)}, 20)["query"]
        difference = (similarity_matrix(head, Texts(slice_), videos) - tiles(TILES[-1])).abs().max().item()
    found["direct"] = min(slow.values()) / len(slice_) * len(texts)
    return {**found, "difference": difference}


def sweeping(texts: Texts, videos: Videos, given: argparse.Namespace) -> dict[str, float]:
    """All k and 16 temperatures in one pass, beside one evaluation of each kind.

    A sweep stands between two evaluations of top-k, so that a slow minute of the machine falls on both; the ratios are
    medians over such rounds.
    """
    head, topk, softmax = head_of("mean"), head_of("topk"), head_of("softmax")

    def all_settings() -> None:
        for _ in sweep(head, texts, videos, top_k=range(1, FRAMES + 1), temperature=TEMPERATURES):  # type: ignore[arg-type]
            pass

    actions: dict[str, Callable[[], object]] = {
        "topk": lambda: similarity_matrix(topk, texts, videos),
        "sweep": all_settings,
        "topk again": lambda: similarity_matrix(topk, texts, videos),
        "softmax": lambda: similarity_matrix(softmax, texts, videos),
    }
    taken = in_turns(actions, given.runs, before=1)
    rounds = list(zip(*taken.values(), strict=True))
    found = {name: statistics.median(taken[name]) for name in ("topk", "softmax", "sweep")}
    found["sweep / topk"] = statistics.median(2 * all_ / (one + again) for one, all_, again, _ in rounds)
    found["sweep / softmax"] = statistics.median(all_ / soft for _, all_, _, soft in rounds)
    return found


def every_head(given: argparse.Namespace) -> dict[str, float]:
    """Seconds of each head on a slice of the texts, words and sound included."""
    texts, videos = features(given.slice, given.videos, whole=True)
    heads = {name: head_of(name, **({"audio_dim": AUDIO} if name == "cmfi" else {})) for name in HEADS}
    return seconds({name: lambda head=head: similarity_matrix(head, texts, videos) for name, head in heads.items()}, 1)  # type: ignore[misc]


def high_water_mb(name: str, texts: int, videos: int) -> float:
    """The peak of resident memory while a head scores, beyond its inputs, in a process of its own. Linux only."""
    command = [sys.executable, __file__, "--peak-of", name, "--texts", str(texts), "--videos", str(videos)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def peak_of(name: str, given: argparse.Namespace) -> float:
    """See ``high_water_mb``; runs in the child."""
    texts, videos = features(given.texts, given.videos, whole=name in ("wf", "mgfi", "cmfi"))
    head = head_of(name)
    similarity_matrix(head, texts.select(torch.arange(8)), videos.select(torch.arange(8)))  # threads and libraries
    Path("/proc/self/clear_refs").write_text("5")  # the mark falls to what is resident now
    before = _resident_mb("VmRSS")
    similarity_matrix(head, texts, videos)
    return _resident_mb("VmHWM") - before


def _resident_mb(row: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(row)) / 1024


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=27_763)
    parser.add_argument("--videos", type=int, default=670)
    parser.add_argument("--slice", type=int, default=512, help="texts for the direct formula and the table of heads")
    parser.add_argument("--full", type=int, default=FULL_TEXTS, help="texts of the MSR-VTT-size run, 0 for none")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-of", metavar="HEAD", help="measure this head's memory only")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of:
        print(peak_of(given.peak_of, given))
        return
    texts, videos = features(given.texts, given.videos)
    pool, swept, heads = xpool(texts, videos, given), sweeping(texts, videos, given), every_head(given)
    memory = {
        f"{name}, {given.videos} x {given.texts}": high_water_mb(name, given.texts, given.videos) for name in ("xpool",)
    }
    if given.full:
        memory[f"xpool, {FULL_VIDEOS} x {given.full}"] = high_water_mb("xpool", given.full, FULL_VIDEOS)
        memory[f"cmfi, {FULL_VIDEOS} x {given.slice}"] = high_water_mb("cmfi", given.slice, FULL_VIDEOS)
    ratios = {
        "X-Pool: times faster than the direct formula (30 or more)": pool["direct"] / pool["score"],
        "X-Pool: times its two bare products (1.8 or less)": pool["score"] / pool["products"],
        f"all k and {len(TEMPERATURES)} temperatures: evaluations of topk (3 or less)": swept["sweep / topk"],
        f"all k and {len(TEMPERATURES)} temperatures: evaluations of softmax": swept["sweep / softmax"],
    }
    machine = platform.processor() or platform.machine()
    print(f"{given.texts} texts × {given.videos} videos × {FRAMES} × {DIM}, {given.threads} threads "
          f"({machine}, torch {torch.__version__})")  # fmt: skip
    for name, value in ratios.items():
        print(f"{value:8.2f}  {name}")
    print(f"{pool['difference']:8.1e}  X-Pool: largest difference from the direct formula")
    for name, value in memory.items():
        print(f"{value:8.0f}  MB beyond the inputs: {name}")
    print(f"{pool['query'] * 1e3:8.2f}  ms for one query against the index of {given.videos} videos")
    for name, value in heads.items():
        print(f"{value / given.slice * 1e3:8.3f}  ms a text: {name}")
    result = {"ratios": ratios, "xpool_s": pool, "sweep_s": swept, "heads_s": heads, "memory_mb": memory}
    settings = {name: value for name, value in vars(given).items() if name != "peak_of"}
    envelope.write("score", result, **settings)


if __name__ == "__main__":
    main()
