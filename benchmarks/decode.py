"""Twelve frames of short clips: this lab's one pass over a file against a seek for each frame, in the same run.

    python benchmarks/decode.py
    python benchmarks/decode.py --root ~/clips

The other side is what loaders of the field do: seek to the keyframe before a time, decode up to it, for each frame. It
is spared the reading of the packets (it trusts the header's frame count and rate), so the comparison favours it; that
it yields the wrong frame where the header lies is not counted. Both convert to RGB at full size, on one thread. Medians
over the repetitions, which alternate; the rows show a clip's median times in milliseconds. Requirement: 1.5 over all.
Writes benchmarks/results/decode.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import envelope
import numpy as np

from lab.media import read_clip
from lab.media.file import Deadline, open_media
from lab.media.listing import best_video, scan, told_by_packets
from lab.media.packets import Source
from lab.media.video import decode_frames
from lab.preprocess import ImageSpec
from lab.sampling import parse_sampling
from lab.toy.write import write_clip

RULE = parse_sampling("midpoints-12")
VIDEOS = {".mp4", ".mkv", ".webm", ".avi", ".mov"}


def one_pass(path: Path) -> int:
    """What read_clip does for the frames, without resizing."""
    deadline = Deadline(120.0)
    with open_media(path, deadline) as container:
        video = best_video(container)
        listing = scan(container, video, None, None, deadline, keep_bytes=2**30)
        source = Source(video.codec_context, listing, list, deadline)
        told = told_by_packets(container, video)
        return len(decode_frames(source, RULE.indices, lambda picture: picture, told=told).pictures)


def seek_each(path: Path) -> int:
    """A seek and a decode from the keyframe for every frame."""
    pictures = []
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = 1
        rate = float(video.average_rate)
        count = video.frames or round(container.duration / 1e6 * rate)
        start = video.start_time or 0
        for index in RULE.indices(count, rate):
            target = start + round(index / rate / float(video.time_base))
            container.seek(target, stream=video)
            frame = None
            for frame in container.decode(video):
                if frame.pts is not None and frame.pts >= target:
                    break
            if frame is not None:
                pictures.append(frame.to_ndarray(format="rgb24"))
    return len(pictures)


def whole(path: Path) -> int:
    """Frames, thumbnails, 224-pixel squares and sound: what a decode process does for a video."""
    return len(read_clip(path, RULE, ImageSpec()).pictures)


def timed(task: Callable[[Path], int], path: Path) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    task(path)
    return 1e3 * (time.perf_counter() - began)


def render(root: Path) -> list[Path]:
    """Clips as the field's are: 5 to 15 s, 320 × 240, keyframes up to ten seconds apart."""
    rng = np.random.default_rng(0)
    paths = []
    for i, (seconds, fps) in enumerate([(5, 25), (7, 30), (9, 24), (10, 30), (12, 25), (15, 30)]):
        field = rng.integers(0, 256, (60, 160, 3)).repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
        steps = range(seconds * fps)
        pictures = (np.ascontiguousarray(field[k % 200 : k % 200 + 240, 2 * k % 900 :][:, :320]) for k in steps)
        paths.append(write_clip(root / f"clip{i}-{seconds}s.mp4", pictures, fps, options={"g": "250", "crf": "23"}))
    return paths


def measure(paths: list[Path], repeat: int) -> dict[str, object]:
    """Print a row for each clip; the medians, and the ratio of their sums."""
    rows = []
    print(f"{'clip':34}{'one pass':>10}{'seek each':>11}{'ratio':>7}{'all of read_clip':>18}  (ms)")
    for path in paths:
        ours, theirs, all_of_it = [], [], []
        for i in range(repeat + 1):
            times = timed(one_pass, path), timed(seek_each, path), timed(whole, path)
            if i:  # the first warms the page cache
                for times_of, value in zip((ours, theirs, all_of_it), times, strict=True):
                    times_of.append(value)
        row = [statistics.median(values) for values in (ours, theirs, all_of_it)]
        rows.append({"clip": path.name, "one_pass_ms": row[0], "seek_each_ms": row[1], "read_clip_ms": row[2]})
        print(f"{path.name[:33]:34}{row[0]:10.1f}{row[1]:11.1f}{row[1] / row[0]:7.2f}{row[2]:18.1f}")
    sums = [sum(float(row[key]) for row in rows) for key in ("one_pass_ms", "seek_each_ms", "read_clip_ms")]  # type: ignore[arg-type]
    print(f"{'sum':34}{sums[0]:10.1f}{sums[1]:11.1f}{sums[1] / sums[0]:7.2f}{sums[2]:18.1f}\n")
    return {"clips": rows, "sum_ms": dict(zip(("one_pass", "seek_each", "read_clip"), sums, strict=True)),
            "ratio": sums[1] / sums[0]}  # fmt: skip


def main() -> int:
    """Rendered clips always, real ones under --root too; exit code 1 where the requirement fails on the rendered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a folder with real clips, searched at all depths")
    parser.add_argument("--repeat", type=int, default=7, help="repetitions a clip (default %(default)s)")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        results["rendered"] = measure(render(Path(folder)), args.repeat)
    if args.root:
        found = sorted(p for p in args.root.rglob("*") if p.suffix.lower() in VIDEOS)
        results["real"] = measure(found, args.repeat)
    envelope.write("decode", results, repeat=args.repeat)
    ratio = float(results["rendered"]["ratio"])  # type: ignore[arg-type]
    print(f"one pass is {ratio:.2f} times as fast as a seek per frame (required: 1.5)")
    return 0 if ratio >= 1.5 else 1


if __name__ == "__main__":
    sys.exit(main())
