"""DiDeMo as paragraph-to-video retrieval: the descriptions of a video, joined, are its one caption."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import assemble, assign, refuse_split
from lab.datasets.collection import Collection, Expected
from lab.datasets.reading import check_published, read_json, read_lines, short
from lab.datasets.tree import Tree, Videos, require_files, some, stem
from lab.download import Source
from lab.errors import LabError

_ANNOTATIONS = "https://raw.githubusercontent.com/LisaAnne/LocalizingMoments/master/data"
_LISTS = "https://raw.githubusercontent.com/albanie/collaborative-experts/master/misc/datasets/didemo"
_PUBLISHED = {
    "train": "8c7b0b7e43da5aa591d668c980e0cfaa",
    "val": "2d01edd0f77bf7f4ad7f5a6b0c52e970",
    "test": "f86b7148857ece3455ef8aa82746b05c",
}
_PUBLISHED_DATA = {"val": "bf8218b4421b74642214ab3e84423b15", "test": "309072a37a329ee45d66e44b1b55e1e6"}


class DiDeMo:
    """``{train,val,test}_data.json``, restricted to ``{train,val,test}_list.txt`` where those are there.

    The counts in print differ (test: 1,003, 1,004, 1,036 ...); 8,392 / 1,065 / 1,004 are those of the usual lists.
    """

    name = "didemo"
    protocols: tuple[str, ...] = ("paragraphs",)
    default_sampling = "midpoints-30-31s"  # descriptions tell of the first 30 s; CLIP4Clip reads 0 to 31 s
    expected: ClassVar[Expected] = {"paragraphs": {"train": (8392, 8392), "val": (1065, 1065), "test": (1004, 1004)}}
    sources: tuple[Source, ...] = (
        Source(f"{_ANNOTATIONS}/train_data.json", "train_data.json", "descriptions, train"),
        Source(
            f"{_ANNOTATIONS}/val_data.json",
            "val_data.json",
            "descriptions, val",
            md5=_PUBLISHED_DATA["val"],
            size=1111448,
        ),
        Source(
            f"{_ANNOTATIONS}/test_data.json",
            "test_data.json",
            "descriptions, test",
            md5=_PUBLISHED_DATA["test"],
            size=1068934,
        ),
        *(
            Source(f"{_LISTS}/{part}_list.txt", f"{part}_list.txt", f"ids, {part}", md5=md5)
            for part, md5 in _PUBLISHED.items()
        ),
    )
    instructions = (
        "get the videos from https://github.com/LisaAnne/LocalizingMoments (download/download_videos_AWS.py, or the "
        "Google Drive folders 1heYHAOJX0mdeLH95jxdfxry6RC_KMVyZ and 1_oyJ5rQiZboipbMl6tkhY8v0s9zDkvJc) and put them "
        "into videos/ in the root; the descriptions tell of the first 30 seconds"
    )

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``. Ids are the names in the annotations, extension included."""
        refuse_split(self.name, split)
        tree = Tree(root, self.name)
        notes = list(tree.notes)
        wanted = {name: tree.find(name) for name in (f"{part}_data.json" for part in _PUBLISHED)}
        where = f"they are at {_ANNOTATIONS}/ (--download gets them)"
        paths = dict(zip(_PUBLISHED, require_files(self.name, tree.root, wanted, where), strict=True))
        texts: dict[str, str] = {}
        lists: dict[str, list[str]] = {}
        for part, path in paths.items():
            found = _paragraphs(path)
            if part in _PUBLISHED_DATA:
                notes += check_published(path, (_PUBLISHED_DATA[part],))
            lists[part] = _listed(tree, part, found, notes)
            # a video of two files has the paragraph of the later one, in whose split it is
            texts |= {key: found[key] for key in lists[part] if key in found}
        videos = assign(self.protocols[0], lists, notes)
        files = Videos(tree)
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions={key: [(text, videos[key])] for key, text in texts.items()},
            files={key: _file(files, key) for key in videos},
            protocols=self.protocols,
            expected=self.expected,
            notes=notes + files.notes(),
        )


def _paragraphs(path: Path) -> dict[str, str]:
    """Id -> its descriptions in the order of the file. The rows of a video are not contiguous, hence the grouping."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise LabError(f"{path} must be a list of descriptions, it holds a {type(rows).__name__}: get the file again")
    found: dict[str, list[str]] = {}
    for place, row in enumerate(rows, 1):
        video, text = (row.get("video"), row.get("description")) if isinstance(row, dict) else (None, None)
        if not isinstance(video, str) or not isinstance(text, str):
            raise LabError(f"{path} must have video and description in each entry, number {place} is {short(row)}")
        found.setdefault(video, []).append(text.replace("\r\n", " ").replace("\n", " ").strip())
    return {video: " ".join(texts) for video, texts in found.items()}


def _listed(tree: Tree, part: str, found: Mapping[str, str], notes: list[str]) -> list[str]:
    """The ids of a split: those of its list, under the names that the annotations have; without a list, all."""
    path = tree.find(f"{part}_list.txt")
    if path is None:
        notes.append(f"{part}_list.txt is not below {tree.root}: all {len(found):,} videos of {part}_data.json count")
        return list(found)
    notes += check_published(path, (_PUBLISHED[part],))
    by_stem = {stem(key): key for key in found}
    ids = [key if key in found else by_stem.get(key, by_stem.get(stem(key), key)) for key in read_lines(path)]
    extra = _without(found, ids)
    if extra:
        notes.append(f"{len(extra):,} videos of {part}_data.json are not in {path.name}, left out: {some(extra)}")
    return ids


def _without(found: Iterable[str], ids: Iterable[str]) -> list[str]:
    listed = set(ids)
    return [key for key in found if key not in listed]


def _file(files: Videos, key: str) -> Path | None:
    """The very name; the name with ".mp4" on top (the authors' AWS script); another extension; the bare stem."""
    return files.exact(key, f"{key}.mp4") or files.file(key, stem(key))
