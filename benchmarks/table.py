"""The README's table of measurements, made from ``results/*.json`` alone.

    python benchmarks/table.py             # rewrites the README between the marks
    python benchmarks/table.py --check     # exit code 1 where it would change

A row says what was measured, the file that holds it, and how its numbers are put. Where there is no file, or a
file without that part, the row says "not measured".
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"

Told = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """``told(results, settings)`` gives the cells "measured" and "beside" of a file's numbers.

    ``part``: keys that lead to what the row needs, in a file whose parts are measured apart.
    """

    what: str
    file: str
    told: Callable[[Told, Told], tuple[str, str]]
    part: tuple[str, ...] = ()

    def within(self, results: Told) -> bool:
        """Whether what the row needs was measured."""
        for key in self.part:
            if key not in results:
                return False
            results = results[key]
        return True


def decoding(r: Told, s: Told) -> tuple[str, str]:
    """Six rendered clips, in all."""
    found = r["rendered"]
    sums = [sum(clip[key] for clip in found["clips"]) for key in ("one_pass_ms", "seek_each_ms")]
    return f"{sums[0]:.0f} ms", f"{sums[1]:.0f} ms with a seek for each frame: {found['ratio']:.1f} ×"


def loading(r: Told, s: Told) -> tuple[str, str]:
    """Bytes of one split over the time, and shares of numpy.load's rate."""
    took = r["seconds"]
    share = {name: took["numpy.load"] / value for name, value in took.items()}
    return (
        f"{r['bytes'] / took['store.load, as stored'] / 1e9:.1f} GB/s",
        f"{share['store.load, as stored']:.2f} of `numpy.load` on the same bytes; "
        f"{share['store.load, as stored, sharded']:.2f} packed into shards; "
        f"{share['store.load, float32']:.2f} with conversion to float32",
    )


def words(r: Told, s: Told) -> tuple[str, str]:
    """The share of ragged words."""
    return f"{100 * r['as laid out']:.1f} %", "of their size padded to 77 tokens"


def scoring(r: Told, s: Told) -> tuple[str, str]:
    """X-Pool over all pairs."""
    memory = r["memory_mb"][f"xpool, {s['videos']} x {s['texts']}"]
    pool = r["xpool_s"]
    return (
        f"{pool['score']:.1f} s, {memory:.0f} MB beyond the inputs",
        f"{pool['direct'] / pool['score']:.0f} × as fast as the direct formula; "
        f"{pool['score'] / pool['products']:.2f} of its two bare matrix products",
    )


def sweeping(r: Told, s: Told) -> tuple[str, str]:
    """All settings of pooling, beside one evaluation."""
    took = r["sweep_s"]
    ratios = [took[f"sweep / {name}"] for name in ("topk", "softmax")]
    return f"{took['sweep']:.1f} s", f"{ratios[0]:.1f} evaluations of top-k, {ratios[1]:.1f} of softmax"


def training(r: Told, s: Told) -> tuple[str, str]:
    """Steps a second."""
    slow, fast, least = r["seconds"].values()
    return f"{1 / fast:.1f} steps/s", (
        f"{slow / fast:.2f} × an item-by-item loop; {fast / least:.2f} of its bare matrix products"
    )


def stacking(r: Told, s: Told) -> tuple[str, str]:
    """Trials trained at once, of two sizes."""
    large, small = r["MSVD size"], r["small"]
    return f"{large['over one']:.1f} × the time of one", (
        f"{large['gain']:.2f} × as fast as one after another; {small['gain']:.2f} × with features of 8 × 64"
    )


def stacking_on_gpu(r: Told, s: Told) -> tuple[str, str]:
    """Trials trained at once, beside one."""
    return f"{r['trials']['over one']:.1f} × the time of one", ""


def halving(r: Told, s: Told) -> tuple[str, str]:
    """What bf16 does to recall, per head."""
    gaps = ", ".join(
        f"{head} {told['gap']:+.1f} ± {told['standard error of the gap']:.1f}".replace("-", "−")
        for head, told in r.items()
    )
    noise = ", ".join(f"{told['standard deviation over seeds, fp32']:.1f}" for told in r.values())
    return f"{gaps} points of R@1", f"{s['seeds']} seeds in float32 differ by {noise} (one standard deviation)"


def searching(r: Told, s: Told) -> tuple[str, str]:
    """A search without training."""
    score, store = r["scoring_ms_a_trial"], r["asking_and_storing_ms_a_trial"]
    return f"{r['search_s']:.1f} s", f"{score:.0f} ms to score a trial, {max(0.0, store):.0f} ms to ask and store"


def passing(r: Told, s: Told) -> tuple[str, str]:
    """The pass in its steady state."""
    took = r["seconds"]
    return (
        f"{s['unit'] / took['end to end']:.2f} videos/s, {took['end to end']:.1f} s a unit of {s['unit']}",
        f"{took['end to end over ideal']:.2f} of the CPU time of all stages, each measured apart, over the cores",
    )


def asking(r: Told, s: Told) -> tuple[str, str]:
    """A typed query, for the head that takes longest."""
    name, worst = max(r["heads"].items(), key=lambda item: item[1]["query_ms"])
    best = min(told["query_ms"] for told in r["heads"].values())
    return (
        f"{best:.0f} to {worst['query_ms']:.0f} ms",
        f"{worst['encode_ms']:.0f} ms of it the text tower; {name} longest",
    )


def graphs(r: Told, s: Told) -> tuple[str, str]:
    """Five epochs as CUDA graphs."""
    small, large = r["training"]["MSVD"], r["training"].get("MSR-VTT-9k")
    further = "not measured"
    if large is not None and "eager over captured" in large:
        further = f"{large['seconds']['captured']:.1f} s, {large['eager over captured']:.1f} ×"
    return f"{small['seconds']['captured']:.1f} s", (
        f"{small['eager over captured']:.1f} × the eager loop; MSR-VTT 9k {further}"
    )


def scoring_on_gpu(r: Told, s: Told) -> tuple[str, str]:
    """X-Pool over all pairs."""
    took = r["scoring_ms"]
    return f"{took['on the device']:.0f} ms", (
        f"{took['on the device'] / took['two bare products']:.2f} of its two bare matrix products; "
        f"{took['brought to the host']:.0f} ms with the matrix on the host"
    )


def encoding_on_gpu(r: Told, s: Told) -> tuple[str, str]:
    """The image tower."""
    found, whole = r["encoding"]["fp16"], r.get("pass")
    beside = f"{found['over bare']:.2f} of the bare model at its best batch"
    if whole is not None:
        rate = whole["unit"] / whole["seconds"]["end to end"]
        beside += f"; the whole pass {rate:.0f} videos/s, {whole['over the slower stage']:.2f} of its slower stage"
    return f"{found['pictures/s']:,.0f} pictures/s", beside


ROWS = (
    Row("decoding 12 frames, six rendered clips of 5 to 15 s", "decode", decoding),
    Row("loading a split of 9,000 videos with words, as stored", "store", loading),
    Row("words of MSVD's 80,827 captions, ragged", "words", words),
    Row("exact X-Pool scoring, 670 videos × 27,763 texts × 12 × 512", "score", scoring),
    Row("all k and 16 temperatures in one pass, same size", "score", sweeping),
    Row("training X-Pool, MSVD size, batch 32", "train", training),
    Row("16 trials of X-Pool trained at once, MSVD size", "stacked", stacking),
    Row("the same on a GPU", "gpu", stacking_on_gpu, ("trials",)),
    Row("training in bf16 in place of float32, toy world, validation", "precision", halving),
    Row(
        "five epochs of X-Pool on a GPU, MSVD size, batch 32",
        "gpu",
        graphs,
        ("training", "MSVD", "eager over captured"),
    ),
    Row("exact X-Pool scoring on a GPU, 670 videos × 27,763 texts, float32", "gpu", scoring_on_gpu, ("scoring_ms",)),
    Row("encoding with ViT-B/32 on a GPU, fp16, decoding excluded", "gpu", encoding_on_gpu, ("encoding", "fp16")),
    Row("a typed query against 1,970 videos, heads of all kinds", "search", asking),
    Row("a search of 200 trials without training, 100 videos × 4,290 captions", "study", searching),
    Row("the pass, ViT-B/32 and Cnn14 with random weights, clips of 10 s", "cache", passing),
)


def block() -> str:
    """What stands between the marks."""
    lines = ["| what | measured | beside |", "|---|---|---|"]
    made: dict[tuple[str, str], list[str]] = {}
    for row in ROWS:
        file = RESULTS / f"{row.file}.json"
        cells = ("not measured", "")
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        if told is not None and row.within(told["results"]):
            cells = row.told(told["results"], told["settings"])
            files = made.setdefault((told["device"], told["date"][:10]), [])
            files += [row.file] if row.file not in files else []
        lines.append(f"| {row.what} | {cells[0]} | {cells[1]} |")
    where = "; ".join(f"{', '.join(files)}: {device}, {date}" for (device, date), files in sorted(made.items()))
    return "\n".join([*lines, "", f"Medians of one run each ({where}).", ""])


def placed(text: str, name: str, inside: str) -> str:
    """A text with what stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` replaced."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    new, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: begin + inside + end, text, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"one pair of marks {begin.strip()} and {end} must be there, found {count}")
    return new


def main() -> int:
    """Rewrites the README, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where something would be")
    given = parser.parse_args()
    old = README.read_text(encoding="utf-8")
    new = placed(old, "bench", block())
    if given.check:
        return int(new != old)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
