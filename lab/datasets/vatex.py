"""VATEX, its English half: ten captions a video; every caption is a query, as on MSVD.

``hgr``: HGR's lists, which halve the official validation set; ``official``: train, validation, public test. A copy has
those of the two for which there are lists and captions.
"""

from __future__ import annotations

from pathlib import Path

from lab.datasets.assemble import assign, merge
from lab.datasets.collection import PARTS
from lab.datasets.divide import carve, hold_out
from lab.datasets.published import Listing, Published
from lab.datasets.reading import captions_by_id, read_json, read_lines
from lab.datasets.tree import Tree
from lab.download import Source
from lab.errors import LabError

_SITE = "https://eric-xw.github.io/vatex-website/data"
_OFFICIAL = {
    "train": "vatex_training_v1.0.json",
    "val": "vatex_validation_v1.0.json",
    "test": "vatex_public_test_english_v1.1.json",
}
_ONE_FILE = ("vatex_data.json", "ref_captions.json")  # CLIP2Video's; TS2-Net's
_HELD = 0.05  # of train as val, where there is no val list


def _listing(tree: Tree) -> Listing:
    one = tree.find(*_ONE_FILE)
    if one is None:
        wanted = ([_OFFICIAL[part], _ONE_FILE[0]] for part in ("train", "val"))
        tree.require(*wanted, where=f"they are at {_SITE}/ (--download gets them)")
    official = {part: path for part, file in _OFFICIAL.items() if (path := tree.find(file))}
    parts = {part: _read_captions(path) for part, path in official.items()}
    texts = {key: rows for found in parts.values() for key, rows in found.items()}
    texts |= _read_captions(one) if one else {}
    views = []
    if lists := _hgr(tree):
        views.append(assign("hgr", lists, tree.notes))
    if len(parts) == len(_OFFICIAL):
        views.append(assign("official", parts, tree.notes))
    if not views:
        tree.require(["train_list.txt"], ["test_list.txt"], where=VATEX.instructions)
    return merge(views), texts


def _hgr(tree: Tree) -> dict[str, list[str]] | None:
    """Split -> ids, or None where there are no lists. CLIP2Video and TS2-Net have no val list: 5 % of train then."""
    lists = {part: read_lines(path) for part in PARTS if (path := tree.find(f"{part}_list.txt"))}
    if "train" not in lists or "test" not in lists:
        tree.notes.append(f"train_list.txt and test_list.txt are not both below {tree.root}: no protocol hgr")
        return None
    if "val" not in lists:
        held = hold_out(lists["train"], _HELD)
        tree.notes.append(f"val_list.txt is not below {tree.root}: {len(held):,} of train's videos are held out as val")
        lists |= carve(lists["train"], held)
    return lists


def _read_captions(path: Path) -> dict[str, list[str]]:
    """Id -> English captions, from any of the three shapes in use."""
    found = read_json(path)
    if isinstance(found, list):
        if not all(isinstance(entry, dict) and isinstance(entry.get("videoID"), str) for entry in found):
            raise LabError(f"{path} must have a videoID in each entry, some have none: get the file again")
        found = {entry["videoID"]: entry for entry in found}
    if isinstance(found, dict):
        found = {key: entry.get("enCap") if isinstance(entry, dict) else entry for key, entry in found.items()}
    return captions_by_id(path, found)


VATEX = Published(
    name="vatex",
    protocols=("hgr", "official"),
    # Of official, val and test are the numbers in use; unlike all others here they were held against no file or list.
    expected={
        "hgr": {"train": (25991, 259910), "val": (1500, 15000), "test": (1500, 15000)},
        "official": {"train": (25991, 259910), "val": (3000, 30000), "test": (6000, 60000)},
    },
    listing=_listing,
    sources=tuple(Source(f"{_SITE}/{file}", file, f"captions, {part}") for part, file in _OFFICIAL.items()),
    instructions=(
        "the videos are clips of YouTube videos, to be cut by the user: put them into videos/<id>.mp4 in the root; for "
        "protocol hgr put the train_list.txt, val_list.txt and test_list.txt of https://github.com/cshizhe/hgr_v2t "
        "there too"
    ),
)
