"""A folder of colour-and-tone clips for the demo, until there is a richer world; and the door to writing videos.

    python -m lab.toy.clips --root /tmp/toy --n 96

renders 96 short clips with sound and their ``captions.csv``, the same bytes from the same seed.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lab.errors import LabError
from lab.toy.write import Picture, Sound, Track, numbered, read_number, tone, write_clip, write_tracks

__all__ = ["Sound", "Track", "numbered", "read_number", "render_sample", "tone", "write_clip", "write_tracks"]

COLOURS = {
    "red": (214, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 215, 40),
    "green": (40, 160, 70),
    "blue": (40, 80, 210),
    "purple": (130, 50, 170),
    "white": (240, 240, 240),
}
SHAPES = ("square", "circle", "triangle", "cross")
MOVES = {
    "moves left": "slides to the left",
    "moves right": "slides to the right",
    "rises": "floats upwards",
    "falls": "drops to the ground",
    "grows": "gets bigger and bigger",
}
SOUNDS = {
    "low": ("while a low tone sounds", "with a deep hum", 220.0),
    "middle": ("while a middle tone sounds", "with a steady beep", 660.0),
    "high": ("while a high tone sounds", "with a shrill whistle", 1980.0),
    "silent": ("without a sound", "in silence", None),
    "absent": ("", "on the screen", None),
}
SIDE, FPS, SECONDS = 128, 8, 3.0


def render_sample(root: Path | str, n: int = 96, seed: int = 0) -> Path:
    """Render ``n`` clips into ``root`` and write its ``captions.csv`` (video,caption,split), two captions a clip.

    A clip is a coloured shape that moves, with a tone, a silent track or no audio stream; no two are alike. Of eight
    clips five are train, one val and two test. Returns the path of the csv. LabError when n is out of range.
    """
    root = Path(root)
    kinds = list(product(COLOURS, SHAPES, MOVES, SOUNDS))
    if not 1 <= n <= len(kinds):
        raise LabError(f"`1 <= n <= {len(kinds)}` clips must hold, got n={n}")
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, kind in enumerate(rng.permutation(len(kinds))[:n].tolist()):
        colour, shape, move, sound = kinds[kind]
        name = f"clip{i:04d}.mp4"
        shade = int(rng.integers(15, 60))
        _render(root / name, colour, shape, move, SOUNDS[sound][2], sound != "absent", shade)
        split = ("train", "train", "val", "train", "test", "train", "test", "train")[i % 8]
        first = f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape} {move} {SOUNDS[sound][0]}".strip()
        rows += [(name, first, split), (name, f"the {colour} {shape} {MOVES[move]} {SOUNDS[sound][1]}", split)]
    table = root / "captions.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("video", "caption", "split"), *rows])
    return table


def _render(path: Path, colour: str, shape: str, move: str, hz: float | None, heard: bool, shade: int) -> None:
    count = round(SECONDS * FPS)
    pictures = [_draw(colour, shape, move, i / (count - 1), shade) for i in range(count)]
    audio = None
    if heard:
        audio = tone(hz, SECONDS) if hz else np.zeros(round(SECONDS * 32000), np.float32)
    write_clip(path, pictures, FPS, audio=audio)


def _draw(colour: str, shape: str, move: str, t: float, shade: int) -> Picture:
    """The scene at ``t`` in [0, 1], drawn at twice the size and scaled down for smooth edges."""
    x = y = SIDE
    radius = SIDE * 0.35
    way = (2 * t - 1) * SIDE * 0.6
    if move in ("moves left", "moves right"):
        x = round(SIDE + (way if move == "moves right" else -way))
    elif move in ("rises", "falls"):
        y = round(SIDE + (way if move == "falls" else -way))
    else:
        radius = SIDE * (0.15 + 0.6 * t)
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), (shade, shade, shade + 10))
    _shape(ImageDraw.Draw(image), shape, x, y, radius, COLOURS[colour])
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _shape(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, fill: tuple[int, int, int]) -> None:
    if shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
    else:
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=fill)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=fill)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of :func:`render_sample`."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.toy.clips",
        description="Render short colour-and-tone clips and their captions.csv.",
        epilog="example: python -m lab.toy.clips --root /tmp/toy --n 96",
    )
    parser.add_argument("--root", type=Path, required=True, help="folder to write into; made if it is not there")
    parser.add_argument("--n", type=int, default=96, help="how many clips (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other clips (default %(default)s)")
    args = parser.parse_args(argv)
    try:
        table = render_sample(args.root, args.n, args.seed)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{args.n} clips and {table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
