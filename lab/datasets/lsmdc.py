"""LSMDC: clips of movies, one sentence of audio description or script a row. To be had from its owners only.

Test is the 1,000 clips of the challenge. A clip of several rows keeps each sentence, as in CLIP4Clip.
"""

from __future__ import annotations

from pathlib import Path

from lab.datasets.assemble import assign
from lab.datasets.collection import PARTS
from lab.datasets.published import Listing, Published
from lab.datasets.reading import read_text
from lab.datasets.tree import Tree
from lab.errors import LabError

_TEST = ("LSMDC16_challenge_1000_publictect.csv", "LSMDC16_challenge_1000_publictest.csv")  # the first as published
_FIELDS = 6  # clip, two aligned times, two extracted times, sentence


def _listing(tree: Tree) -> Listing:
    wanted = (["LSMDC16_annos_training.csv"], ["LSMDC16_annos_val.csv"], _TEST)
    paths = tree.require(*wanted, where=LSMDC.instructions)
    rows = {part: _read_rows(path) for part, path in zip(PARTS, paths, strict=True)}
    lists = {part: dict.fromkeys(key for key, _ in found) for part, found in rows.items()}
    videos = assign("lsmdc", lists, tree.notes)
    captions: dict[str, list[str]] = {}
    for part, found in rows.items():
        for key, text in found:
            if videos[key]["lsmdc"] == part:  # not the sentences of a split that the clip had to leave
                captions.setdefault(key, []).append(text)
    return videos, captions


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """(clip, sentence) of each line. No header, tabs, and in some copies a quote around the whole line."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        if line.startswith('"'):
            line = line[1:].removesuffix('"').replace('""', '"')
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) == _FIELDS - 1:
            fields.append("")  # an empty sentence, in a copy whose lines have been stripped
        if len(fields) < _FIELDS or not fields[0]:
            raise LabError(
                f"{path} line {number} has {len(fields)} fields, {_FIELDS} separated by tabs are needed "
                "(clip, four times, sentence): get the file again"
            )
        rows.append((fields[0], " ".join(fields[_FIELDS - 1 :])))
    return rows


LSMDC = Published(
    name="lsmdc",
    protocols=("lsmdc",),
    # rows are published; the numbers of distinct clips in train and val are not
    expected={"lsmdc": {"train": (None, 101079), "val": (None, 7408), "test": (1000, 1000)}},
    listing=_listing,
    md5s=dict.fromkeys(_TEST, ("645ee13807969918b173a6ef43e482d7",)),
    suffixes=(".avi", ".mp4"),
    instructions=(
        "LSMDC is not public: sign the form at https://sites.google.com/site/describingmovies/download, then put "
        f"LSMDC16_annos_training.csv, LSMDC16_annos_val.csv, {_TEST[0]} and the clips (<movie>/<clip>.avi) into "
        "the root"
    ),
)
