"""Small worlds for tests of the pass: a folder of clips, and networks so small that encoding costs nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import tiny_backbones
import zarr

from lab.toy.write import tone, write_clip


def tiny_networks(folder: Path) -> list[str]:
    """--clip and --panns for very small networks with random weights, their configs written to ``folder``."""
    clip = tiny_backbones.config(folder, tiny_backbones.CLIP, "tiny-clip")
    panns = tiny_backbones.config(folder, tiny_backbones.PANNS, "tiny-panns")
    return ["--clip", f"{clip}:random", "--panns", f"{panns}:random"]


def clip_file(path: Path, seed: int = 0, *, frames: int = 15, sound: bool = True) -> Path:
    """A video of coloured noise (64 × 48, 10 fps), with a tone or without an audio stream."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 256, (frames, 6, 8, 3), dtype=np.uint8)
    pictures = grid.repeat(8, axis=1).repeat(8, axis=2)
    audio = tone(200 + 40 * (seed % 20), frames / 10) if sound else None
    return write_clip(path, list(pictures), fps=10, audio=audio)


def folder(root: Path, videos: int, originals: int = 7, captions: int = 2) -> Path:
    """A folder data set of many videos made cheaply: every seventh is a copy of one of few; some have no sound."""
    root.mkdir(parents=True)
    names = [f"clip{i:03d}.mp4" for i in range(videos)]
    for i, name in enumerate(names):
        if i < originals:
            clip_file(root / name, i, frames=5 + 3 * i, sound=i % 3 != 2)
        else:
            shutil.copyfile(root / names[i % originals], root / name)
    captions_csv(
        root, {name: [f"clip {i} says {j} words of it" for j in range(captions)] for i, name in enumerate(names)}
    )
    return root


def captions_csv(root: Path, captions: dict[str, list[str]]) -> None:
    """Writes captions.csv: three of five videos are train, one val, one test."""
    with (root / "captions.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["video", "caption", "split"])
        for i, (name, texts) in enumerate(captions.items()):
            for text in texts:
                table.writerow([name, text, ("train", "train", "train", "val", "test")[i % 5]])


def contents(store: Path) -> dict[str, object]:
    """All that a store holds but for timings and paths: bytes of every array, tables, passport, ledger."""
    group = zarr.open_group(store, mode="r")
    held: dict[str, object] = {"attributes": json.dumps(dict(group.attrs), sort_keys=True)}
    for name, array in group.arrays():
        values = np.ascontiguousarray(array[:])
        held[name] = (values.shape, str(values.dtype), values.tobytes())
    for file in sorted((store / "tables").glob("*.ndjson")):
        held[file.name] = file.read_text()
    held |= {f"thumbnails/{file.stem}": file.read_bytes() for file in (store / "thumbnails").glob("*.zip")}
    rows = []
    for file in sorted((store / "tables" / "ledger").glob("*.ndjson")):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            del row["seconds"]
            rows.append((file.name, json.dumps(row, sort_keys=True)))
    held["ledger"] = sorted(rows)
    return held


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its bytes and modification time: what must not change when nothing may."""
    return {
        str(file.relative_to(root)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }
