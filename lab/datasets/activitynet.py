"""ActivityNet Captions as paragraph-to-video retrieval: the sentences of a video, joined, are its one caption."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import assemble, assign, refuse_split
from lab.datasets.collection import Collection, Expected
from lab.datasets.divide import hold_out
from lab.datasets.reading import check_published, read_json, short
from lab.datasets.tree import Tree, Videos, require_files, some
from lab.download import Source
from lab.errors import LabError

_PUBLISHED = {"train.json": "818e41728331f2b02ae901af08d42a5c", "val_1.json": "781561275e732a0a61cc5ae6bc77dcd6"}
_HELD = 0.05  # of train as val; 500 of 10,009, near MSR-VTT's 497


class ActivityNet:
    """``val1``: train.json divided into train and val, and val_1.json as test, on which all papers report.

    The data set has no validation split beside the one that is reported, so 5 % of train become one.
    """

    name = "activitynet"
    protocols: tuple[str, ...] = ("val1",)
    default_sampling = "midpoints-12"
    expected: ClassVar[Expected] = {"val1": {"train": (9509, 9509), "val": (500, 500), "test": (4917, 4917)}}
    sources: tuple[Source, ...] = (
        Source(
            "https://cs.stanford.edu/people/ranjaykrishna/densevid/captions.zip",
            "captions.zip",
            "captions",
            unpack=True,
        ),
    )
    instructions = (
        "ask for the videos with the form at http://activity-net.org/download and put them into videos/ in the root, "
        "named by the YouTube id with or without v_"
    )

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``. Ids are those of the captions, with their v_."""
        refuse_split(self.name, split)
        tree = Tree(root, self.name)
        notes = list(tree.notes)
        wanted = {name: tree.find(name) for name in _PUBLISHED}
        where = f"they are in {self.sources[0].url} (--download gets it)"
        paths = require_files(self.name, tree.root, wanted, where)
        train, test = (_paragraphs(path) for path in paths)
        for path, md5 in zip(paths, _PUBLISHED.values(), strict=True):
            notes += check_published(path, (md5,))
        known = _listed(tree, "train_ids.json", train, notes)
        held = hold_out(known, _HELD)
        lists = {
            "train": [key for key in known if key not in held],
            "val": [key for key in known if key in held],
            "test": _listed(tree, "val_ids.json", test, notes),
        }
        videos = assign(self.protocols[0], lists, notes)
        texts = train | test
        files = Videos(tree)
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions={key: [(text, videos.get(key, {}))] for key, text in texts.items()},
            files={key: files.file(key.removeprefix("v_"), key) for key in videos},
            protocols=self.protocols,
            expected=self.expected,
            notes=notes + files.notes(),
        )


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


def _listed(tree: Tree, name: str, captioned: dict[str, str], notes: list[str]) -> list[str]:
    """The ids of a list that have captions (15 of train's and 9 of val's have none); without a list, all."""
    path = tree.find(name)
    if path is None:
        return list(captioned)
    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(key, str) for key in ids):
        raise LabError(f"{path} must be a list of ids: get the file again")
    bare = [key for key in ids if key not in captioned]
    if bare:
        notes.append(f"{len(bare):,} ids of {name} have no captions and are left out: {some(bare)}")
    return [key for key in ids if key in captioned]
