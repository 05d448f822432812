"""A folder of videos with a captions.csv, as people have them, from a few toy clips: something to try the lab on."""

from __future__ import annotations

import csv
from pathlib import Path

from lab import cli
from lab.toy.film import render
from lab.toy.grammar import captions
from lab.toy.world import clip

#: A world for development: an example has nothing to do with the release.
WORLD = 99


def example_folder(root: Path, clips: int = 12, lines: int = 3) -> Path:
    """Fills ``root`` with clips and a captions.csv of so many lines a clip; a folder that has one stays as it is.

    Raises ``LabError`` where the extra ``toy`` is not installed.
    """
    table = root / "captions.csv"
    if table.exists():
        return root
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    with cli.bar(clips, "rendering clips", "clip") as bar:
        for number in range(clips):
            one = clip(WORLD, "test", number)
            file = render(one, root / f"clip{number + 1:02d}.mp4")
            rows += [(file.name, line.text) for line in captions(one, lines)]
            bar.update()
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("video", "caption"), *rows])
    return root
