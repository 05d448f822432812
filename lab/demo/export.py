"""The page as files that open from disk: some captions under all heads of the menu, with the pictures they need.

``data.js`` holds the answers, since a page from disk may not fetch; ``frames/ROW-FRAME.jpg`` are the store's pictures.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from lab import cli
from lab.atomic import replace_bytes, replace_text
from lab.demo.answers import Answers
from lab.demo.server import PAGE
from lab.errors import LabError
from lab.reads import require_captions

#: What marks a directory as made here, so that it may be written to again: this file, if it begins like this.
DATA, BEGINS = "data.js", "window.exported = {"


def export(answers: Answers, out: Path, heads: list[str], captions: int = 12, seed: int = 0) -> int:
    """Writes the page to ``out`` and returns how many captions it shows, drawn at random, no two of one video.

    Raises ``LabError`` for a directory that holds something else, and for a split without captions.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _made_here(out / DATA))):
        raise LabError(f"{out} must be empty or an earlier export, and holds something else: choose another directory")
    if captions < 1:
        raise LabError(f"--captions must be 1 or more, got {captions}")
    require_captions(answers.store)
    if not answers.captions.rows:
        raise LabError(f"no caption of split '{answers.split}' has features in {answers.store.path}: run the pass on "
                       "it first, or give another --split")  # fmt: skip
    chosen = draw(answers, captions, seed)
    shown: dict[int, set[int]] = {}
    picked: dict[str, Any] = {}
    told: dict[str, Any] = {}
    with cli.bar(len(chosen), "captions", "caption") as bar:
        for row in chosen:
            answer = picked[str(row)] = answers.picked(row, heads)
            video = answer["video"]
            video["file"] = False  # its frames are what the files hold
            shown.setdefault(video["row"], set()).update(range(video["pictures"]))
            for of_head in answer["heads"].values():
                for hit in of_head["top"]:
                    best = int(np.argmax(hit["weights"])) if hit["weights"] else 0
                    shown.setdefault(hit["row"], set()).add(best)
            described = told[str(video["row"])] = answers.told_of(video["row"], heads)
            described["video"]["file"] = False
            bar.update()
    about = answers.about()
    about["heads"] = [head for head in about["heads"] if head["key"] in heads]
    about.update(first=heads[0], typed=False)
    lists = {
        "captions": [answers.captions.one(row) for row in chosen],
        "videos": [described["video"] for described in told.values()],
    }
    shutil.rmtree(out / "frames", ignore_errors=True)  # those of the captions that an earlier export showed
    (out / "frames").mkdir(parents=True, exist_ok=True)
    for video_row, places in shown.items():
        pictures = answers.files.pictures(video_row)
        for place in sorted(places):
            if place < len(pictures):
                replace_bytes(out / "frames" / f"{video_row}-{place}.jpg", pictures[place])
    for file in sorted(PAGE.iterdir()):
        if file.is_file():
            shutil.copyfile(file, out / file.name)
    data = json.dumps({"about": about, **lists, "picked": picked, "told": told}, allow_nan=False)
    replace_text(out / DATA, f"{BEGINS}{data[1:].replace('<', chr(92) + 'u003c')};\n")
    return len(chosen)


def _made_here(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(BEGINS)) == BEGINS.encode()
    except OSError:
        return False


def draw(answers: Answers, count: int, seed: int) -> list[int]:
    """Rows of captions, drawn at random: one a video as long as there are videos, then more of them."""
    rng = np.random.default_rng(seed)
    first: dict[int, int] = {}
    order = rng.permutation(answers.captions.rows).tolist()
    for row in order:
        first.setdefault(answers.store.captions[row]["video"], row)
    kept = set(first.values())
    return [*first.values(), *(row for row in order if row not in kept)][:count]
