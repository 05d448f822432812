"""VATEX, its English half: ten captions a video; every caption is a query, as on MSVD."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import assemble, assign, refuse_split
from lab.datasets.collection import Collection, Expected, Splits
from lab.datasets.divide import hold_out
from lab.datasets.reading import captions_by_id, read_json, read_lines
from lab.datasets.tree import Tree, Videos, require_files
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


class VATEX:
    """``hgr``: HGR's lists, which halve the official validation set; ``official``: train, validation, public test."""

    name = "vatex"
    protocols: tuple[str, ...] = ("hgr", "official")
    default_sampling = "midpoints-12"
    # Of official, val and test are the numbers in use; unlike all others here they were held against no file or list.
    expected: ClassVar[Expected] = {
        "hgr": {"train": (25991, 259910), "val": (1500, 15000), "test": (1500, 15000)},
        "official": {"train": (25991, 259910), "val": (3000, 30000), "test": (6000, 60000)},
    }
    sources: tuple[Source, ...] = tuple(
        Source(f"{_SITE}/{file}", file, f"captions, {part}") for part, file in _OFFICIAL.items()
    )
    instructions = (
        "the videos are clips of YouTube videos, to be cut by the user: put them into videos/<id>.mp4 in the root; for "
        "protocol hgr put the train_list.txt, val_list.txt and test_list.txt of https://github.com/cshizhe/hgr_v2t "
        "there too"
    )

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``. Of the two protocols it has those for which there are lists and captions."""
        refuse_split(self.name, split)
        tree = Tree(root, self.name)
        notes = list(tree.notes)
        one = tree.find(*_ONE_FILE)
        official = {part: tree.find(file) for part, file in _OFFICIAL.items()}
        if one is None:
            wanted = {
                f"{file} (or {_ONE_FILE[0]})": official[part] for part, file in _OFFICIAL.items() if part != "test"
            }
            require_files(self.name, tree.root, wanted, f"they are at {_SITE}/ (--download gets them)")
        parts = {part: _read_captions(path) for part, path in official.items() if path is not None}
        texts = {key: rows for found in parts.values() for key, rows in found.items()}
        texts |= _read_captions(one) if one else {}
        views = {}
        if lists := _hgr(tree, notes):
            views["hgr"] = assign("hgr", lists, notes)
        if len(parts) == len(_OFFICIAL):
            views["official"] = assign("official", parts, notes)
        if not views:
            names = ("train_list.txt", "test_list.txt")
            require_files(self.name, tree.root, {name: tree.find(name) for name in names}, self.instructions)
        videos: dict[str, Splits] = {}
        for view in views.values():
            for key, splits in view.items():
                videos[key] = {**videos.get(key, {}), **splits}
        files = Videos(tree)
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions={key: [(text, videos.get(key, {})) for text in rows] for key, rows in texts.items()},
            files={key: files.file(key) for key in videos},
            protocols=tuple(views),
            expected=self.expected,
            notes=notes + files.notes(),
        )


def _hgr(tree: Tree, notes: list[str]) -> dict[str, list[str]] | None:
    """Split -> ids, or None where there are no lists. CLIP2Video and TS2-Net have no val list: 5 % of train then."""
    train, val, test = (tree.find(f"{part}_list.txt") for part in ("train", "val", "test"))
    if train is None or test is None:
        notes.append(f"train_list.txt and test_list.txt are not both below {tree.root}: no protocol hgr")
        return None
    ids = read_lines(train)
    if val is not None:
        return {"train": ids, "val": read_lines(val), "test": read_lines(test)}
    held = hold_out(ids, _HELD)
    notes.append(f"val_list.txt is not below {tree.root}: {len(held):,} of train's videos are held out as val")
    return {
        "train": [key for key in ids if key not in held],
        "val": [key for key in ids if key in held],
        "test": read_lines(test),
    }


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
