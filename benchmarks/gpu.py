"""What a GPU does: exact scoring, the image tower, training as CUDA graphs, eagerly and many at once, the pass.

python benchmarks/gpu.py [--device cuda] [--rounds 3] [--only PART ...] [--results DIR]

Parts, the cheap ones first: scoring, encoding, trials, msvd, pass, msrvtt. Each number is printed and written to
gpu.json, in DIR or benchmarks/results, as soon as it is there, beside those that are there from the same GPU, versions
and rounds: what is killed loses nothing. A part that fails or lacks a package (scoring needs torch alone; trials, msvd
and msrvtt zarr as well; encoding open_clip; pass these and av) does not stop the next. At the end it says which of the
numbers that are asked of an H100 hold. Says so in one line where there is no GPU.

Synthetic features at D = 512, F = 12: scoring of MSVD's test (670 videos, 27,763 texts) in float32, the matrix left on
the GPU and brought to the host; ViT-B/32 with random weights, decoding excluded, beside the bare model at its best
batch; X-Pool, five epochs at batch 32: of MSVD's size (1,200 videos, 48,774 captions), there 16 trials at once as well,
and of MSR-VTT-9k's (9,000 videos, 180,000 captions); the pass of benchmarks/cache.py, beside its slower stage. How
often the host waits is counted by torch.cuda.set_sync_debug_mode, in trainings that are not timed. Not run yet: no GPU
was at hand.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import envelope
import torch
from gpu_parts import Found, encoding, many, passing, scoring, training

#: (videos, texts)
SIZES = {"MSVD": (1200, 48_774), "MSR-VTT-9k": (9000, 180_000)}
TEST = (670, 27_763)

#: What is asked of an H100: its name, where it is in the results, the bound, and whether that is the least.
ASKED: tuple[tuple[str, tuple[str, ...], float, bool], ...] = (
    ("X-Pool, five epochs of MSVD's size, seconds", ("training", "MSVD", "seconds", "captured"), 15, False),
    ("the eager loop, times that", ("training", "MSVD", "eager over captured"), 4, True),
    ("16 trials at once, times one", ("trials", "over one"), 4, False),
    ("X-Pool scoring of MSVD's test in float32, ms", ("scoring_ms", "on the device"), 30, False),
    ("ViT-B/32 encoding, of the bare model's rate", ("encoding", "fp16", "over bare"), 0.6, True),
    ("the pass, of its slower stage's rate", ("pass", "over the slower stage"), 0.85, True),
)


Part = Callable[[str, int], Iterator[tuple[str, Found]]]


def _trained(name: str, *, checked: bool) -> Part:
    return lambda device, rounds: (
        ("training", {name: found}) for found in training(SIZES[name], device, rounds, checked=checked)
    )


#: The cheap ones first: a GPU may be lent for minutes.
PARTS: dict[str, Part] = {
    "scoring": lambda device, rounds: iter([("scoring_ms", scoring(TEST, device, rounds))]),
    "encoding": lambda device, rounds: (
        ("encoding", {how: encoding(device, rounds, precision=how)}) for how in ("fp16", "fp32")
    ),
    "trials": lambda device, rounds: iter([("trials", many(SIZES["MSVD"], device, rounds))]),
    "msvd": _trained("MSVD", checked=True),
    "pass": lambda device, rounds: iter([("pass", passing(device))]),
    "msrvtt": _trained("MSR-VTT-9k", checked=False),
}


class _Heard(logging.Handler):
    """What the lab warned of: a step that cannot be recorded, memory that does not do."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        print(f"warning: {self.lines[-1]}", flush=True)

    def __enter__(self) -> _Heard:
        logging.getLogger("lab").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("lab").removeHandler(self)


def measure(parts: Iterable[str], device: str, rounds: int) -> list[str]:
    """Measures, prints and writes one part after the other; gives those that failed or lack a package."""
    failed = []
    for name in parts:
        begun = time.perf_counter()
        with _Heard() as heard:
            try:
                for key, found in PARTS[name](device, rounds):
                    print(name, found, flush=True)
                    results = earlier(device, rounds)
                    results[key] = results.get(key, {}) | found
                    results["warnings"] = results.get("warnings", {}) | {name: heard.lines}
                    envelope.write("gpu", results, device=device, rounds=rounds)
            except ModuleNotFoundError as error:
                failed.append(name)
                print(f"{name}: not measured, {error.name} is not installed", flush=True)
            except Exception:
                failed.append(name)
                print(f"{name}: failed\n{traceback.format_exc()}", flush=True)
        print(f"{name}: {time.perf_counter() - begun:.0f} s in all", flush=True)
    return failed


def earlier(device: str, rounds: int) -> dict[str, Found]:
    """Results of the same GPU, versions and rounds that are there; others have no place in one file with new ones.

    Of versions those that both know: a part that needs no zarr may have been measured where there was none.
    """
    for file in (folder / "gpu.json" for folder in (envelope.RESULTS, KEPT)):
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        here = {"device": envelope.describe(device), "settings": {"rounds": rounds}}
        known = told.get("versions", {})
        if here.items() <= told.items() and all(known.get(n, v) == v for n, v in envelope.versions().items()):
            found: dict[str, Found] = told["results"]
            return found
    return {}


#: Where results are kept in the repository.
KEPT = envelope.RESULTS


def asked(results: dict[str, Found]) -> Iterator[str]:
    """A line for each number that is asked for: what it is, and whether it holds."""
    for what, path, bound, least in ASKED:
        value: Any = results
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        said = "not measured" if value is None else f"{value:.3g}, {_verdict(value, bound, least)}"
        yield f"{what}: {said} (asked: at {'least' if least else 'most'} {bound:g})"


def _verdict(value: float, bound: float, least: bool) -> str:
    return "holds" if (value >= bound if least else value <= bound) else "MISSED"


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="some parts alone")
    parser.add_argument("--results", type=Path, default=KEPT, metavar="DIR", help="where gpu.json goes")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py: torch sees no GPU, nothing was measured")
        return 0
    envelope.RESULTS = given.results
    failed = measure([name for name in PARTS if name in given.only], given.device, given.rounds)
    for line in asked(earlier(given.device, given.rounds)):
        print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
