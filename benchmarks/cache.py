"""The pass in its steady state, beside the ideal of this machine, from one run.

python benchmarks/cache.py [--clips 208] [--clip random] [--panns random] [--device cpu]

The clips are rendered (10 s, 320 × 240, 25 fps, H.264 and AAC; a few originals, copied). What is measured per unit of
16 videos, as medians over units: the pass end to end, once it runs (start-up is told apart); decoding alone by the same
processes; encoding alone; writing alone. The ideal: where stages share the cores, the CPU time of all of them over the
cores; where the networks run on a GPU, the slower of decoding alone and encoding alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import envelope
import numpy as np
import torch

from lab.backbones import load_clip, load_panns
from lab.datasets import get_dataset
from lab.extraction import plan
from lab.extraction.encode import begin
from lab.extraction.loop import Decoding, Pass
from lab.extraction.units import Share
from lab.media import Clip
from lab.sampling import parse_sampling
from lab.store import UNIT_VIDEOS
from lab.store.create import create_store
from lab.store.lock import writing
from lab.store.writer import StoreWriter
from lab.toy.write import tone, write_clip
from lab.workers import DecodePool

SECONDS, FPS, WIDTH, HEIGHT, ORIGINALS = 10, 25, 320, 240, 8


def render(root: Path, clips: int) -> None:
    """Moving patterns with a tone: few originals, many names."""
    root.mkdir(parents=True)
    rows = np.arange(HEIGHT)[:, None] / HEIGHT
    columns = np.arange(WIDTH)[None] / WIDTH
    for i in range(ORIGINALS):
        waves = (
            (np.sin(9 * columns + 0.11 * f + i), np.cos(7 * rows - 0.07 * f), np.sin(5 * (rows + columns) + f / 50))
            for f in range(SECONDS * FPS)
        )
        pictures = (((np.stack(np.broadcast_arrays(*w), -1) + 1) * 127).astype(np.uint8) for w in waves)
        write_clip(root / f"c{i:04d}.mp4", pictures, fps=FPS, audio=tone(220 + 30 * i, SECONDS))
    for i in range(ORIGINALS, clips):
        shutil.copyfile(root / f"c{i % ORIGINALS:04d}.mp4", root / f"c{i:04d}.mp4")


def cpu_s() -> float:
    """CPU seconds of this process and of the children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=208)
    parser.add_argument("--clip", default="random")
    parser.add_argument("--panns", default="random")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--workers", type=int, default=plan.Options("folder").workers)
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="bench-cache-"))
    try:
        report(measure(base, given), given)
    finally:
        shutil.rmtree(base)


def measure(base: Path, given: argparse.Namespace) -> dict[str, float]:
    """Seconds per unit of 16 videos (medians), and start-up."""
    render(base / "root", given.clips)
    start = time.perf_counter()
    clip = load_clip(given.clip, device=given.device, precision=given.precision)
    panns = load_panns(given.panns, device=given.device, precision=given.precision)
    loading = time.perf_counter() - start
    sampling = parse_sampling("midpoints-12")
    collection = get_dataset("folder").read(base / "root")
    decoder = Decoding(sampling, clip.image, 60.0, 600.0)
    job = decoder.job(True, panns.sample_rate)

    units, decoding = decode_only(job, [video.file for video in collection.videos], given.workers)
    encoding_wall, encoding_cpu = encode_only(clip, panns, units)
    sections = plan.passport_sections(clip, panns, sampling, ("frames", "audio"))
    path = base / "bench.zarr"
    create_store(path, collection, {"name": "bench"})
    begin = time.perf_counter()
    with writing(path):
        writer = StoreWriter(path)
        plan.make_room(writer, sections, collection, clip, panns, sampling)
        run = Pass(collection, writer, frozenset(sections), clip, panns, decoder, Share(), given.workers)
        ends, commit = [time.perf_counter()], run._commit

        def timed_commit(unit: object, clips: object) -> int:
            written = commit(unit, clips)
            ends.append(time.perf_counter())
            return written

        run._commit = timed_commit
        run.run()
    first = ends[1] - begin
    steady = np.diff(ends)[1:]
    writing_s = run.spent.writing / (len(ends) - 1)
    cores = len(os.sched_getaffinity(0))
    if given.device == "cpu":
        ideal = (decoding["cpu"] + encoding_cpu + writing_s) / cores
    else:
        ideal = max(decoding["wall"], encoding_wall)
    median = statistics.median(steady)
    return {"loading the networks": loading, "first unit, start-up included": first, "end to end": median,
            "decoding alone, wall": decoding["wall"], "decoding alone, CPU": decoding["cpu"],
            "encoding alone, wall": encoding_wall, "encoding alone, CPU": encoding_cpu, "writing": writing_s,
            "ideal": ideal, "cores": cores, "end to end over ideal": median / ideal}  # fmt: skip


def decode_only(
    job: Callable[[Path], Clip], files: list[Path], workers: int
) -> tuple[list[list[Clip]], dict[str, float]]:
    """The first three units decoded, kept for encoding; and medians over all units."""
    kept: list[list[Clip]] = []
    ends, cpu, unit = [time.perf_counter()], [], []
    with DecodePool(workers, job, deadline_s=60) as pool:
        for _, clip in pool.run(files, UNIT_VIDEOS + 2 * workers):
            unit.append(clip)
            if len(unit) == UNIT_VIDEOS:
                ends.append(time.perf_counter())
                cpu.append(sum(clip.seconds for clip in unit))
                kept.append(unit) if len(kept) < 3 else None
                unit = []
    return kept, {"wall": statistics.median(np.diff(ends)[1:]), "cpu": statistics.median(cpu)}


def encode_only(clip: object, panns: object, units: list[list[Clip]]) -> tuple[float, float]:
    """Median wall and CPU seconds of encoding a unit, nothing else running; the first is for warming up.

    As the pass does: a unit is begun, then the one before is waited for. A CPU is done with it by then.
    """
    wall, cpu, before = [], [], None
    for unit in [units[0], *units]:
        start, used = time.perf_counter(), cpu_s()
        begun = begin(frozenset({"frames", "audio"}), unit, clip, panns)
        if before is not None:
            before.frames(), before.audio()
        before = begun
        wall.append(time.perf_counter() - start)
        cpu.append(cpu_s() - used)
    return statistics.median(wall[1:]), statistics.median(cpu[1:])


def report(seconds: dict[str, float], given: argparse.Namespace) -> None:
    """Prints the table and writes benchmarks/results/cache.json, on a GPU cache_gpu.json."""
    device = torch.cuda.get_device_name() if given.device != "cpu" else platform.processor() or platform.machine()
    print(f"{given.clips} clips of {SECONDS} s, {given.clip} and {given.panns} on {device}, torch {torch.__version__}, "
          f"{given.workers} decode processes")  # fmt: skip
    print("seconds per unit of 16 videos, medians:")
    for name, value in seconds.items():
        print(f"  {name:32}{value:8.2f}")
    print(f"  {'videos per second':32}{UNIT_VIDEOS / seconds['end to end']:8.2f}")
    settings = vars(given) | {"unit": UNIT_VIDEOS, "clip_s": SECONDS}
    envelope.write("cache" if given.device == "cpu" else "cache_gpu", {"seconds": seconds}, **settings)


if __name__ == "__main__":
    main()
