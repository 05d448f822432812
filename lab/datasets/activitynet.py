"""ActivityNet Captions as paragraph-to-video retrieval: the sentences of a video, joined, are its one caption.

``val1``: train.json divided into train and val, and val_1.json as test, on which all papers report. The data set has no
validation split beside the one that is reported, so 5 % of train become one. Ids are those of the captions, with their
v_, which the names of the videos mostly lack.
"""

from __future__ import annotations

from pathlib import Path

from lab.datasets.assemble import assign
from lab.datasets.divide import carve, hold_out
from lab.datasets.published import Listing, Published
from lab.datasets.reading import read_json, short
from lab.datasets.tree import Tree, some
from lab.download import Source
from lab.errors import LabError

_URL = "https://cs.stanford.edu/people/ranjaykrishna/densevid/captions.zip"
_HELD = 0.05  # of train as val; 500 of 10,009, near MSR-VTT's 497


def _listing(tree: Tree) -> Listing:
    paths = tree.require(["train.json"], ["val_1.json"], where=f"they are in {_URL} (--download gets it)")
    train, test = (_paragraphs(path) for path in paths)
    known = _listed(tree, "train_ids.json", train)
    lists = {**carve(known, hold_out(known, _HELD)), "test": _listed(tree, "val_ids.json", test)}
    return assign("val1", lists, tree.notes), {key: [text] for key, text in (train | test).items()}


def _paragraphs(path: Path) -> dict[str, str]:
    """Id -> its sentences, in order, less the blanks around them."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise LabError(f"{path} must map ids to sentences, it holds a {type(found).__name__}: get the file again")
    texts: dict[str, str] = {}
    for key, entry in found.items():
        sentences = entry.get("sentences") if isinstance(entry, dict) else None
        if not isinstance(sentences, list) or not all(isinstance(text, str) for text in sentences):
            raise LabError(f'{path} must have a list "sentences" for each id, {short(key)} has {short(entry)}')
        texts[key] = " ".join(" ".join(text.split()) for text in sentences if text.strip())
    return texts


def _listed(tree: Tree, name: str, captioned: dict[str, str]) -> list[str]:
    """The ids of a list that have captions (15 of train's and 9 of val's have none); without a list, all."""
    path = tree.find(name)
    if path is None:
        return list(captioned)
    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(key, str) for key in ids):
        raise LabError(f"{path} must be a list of ids: get the file again")
    bare = [key for key in ids if key not in captioned]
    if bare:
        tree.notes.append(f"{len(bare):,} ids of {name} have no captions and are left out: {some(bare)}")
    return [key for key in ids if key in captioned]


ACTIVITYNET = Published(
    name="activitynet",
    protocols=("val1",),
    expected={"val1": {"train": (9509, 9509), "val": (500, 500), "test": (4917, 4917)}},
    listing=_listing,
    md5s={"train.json": ("818e41728331f2b02ae901af08d42a5c",), "val_1.json": ("781561275e732a0a61cc5ae6bc77dcd6",)},
    find=lambda files, key: files.file(key.removeprefix("v_"), key),
    sources=(Source(_URL, "captions.zip", "captions", unpack=True),),
    instructions=(
        "ask for the videos with the form at http://activity-net.org/download and put them into videos/ in the root, "
        "named by the YouTube id with or without v_"
    ),
)
