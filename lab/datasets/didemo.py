"""DiDeMo as paragraph-to-video retrieval: the descriptions of a video, joined, are its one caption.

``{train,val,test}_data.json``, restricted to ``{train,val,test}_list.txt`` where those are there. The counts in print
differ (test: 1,003, 1,004, 1,036 ...); 8,392 / 1,065 / 1,004 are those of the usual lists. Ids are the names in the
annotations, extension included.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lab.datasets.assemble import assign
from lab.datasets.collection import PARTS
from lab.datasets.published import Listing, Published
from lab.datasets.reading import read_json, read_lines, short
from lab.datasets.tree import Tree, Videos, some, stem
from lab.download import Source
from lab.errors import LabError

_ANNOTATIONS = "https://raw.githubusercontent.com/LisaAnne/LocalizingMoments/master/data"
_LISTS = "https://raw.githubusercontent.com/albanie/collaborative-experts/master/misc/datasets/didemo"
_MD5S = {
    "train_list.txt": "8c7b0b7e43da5aa591d668c980e0cfaa",
    "val_list.txt": "2d01edd0f77bf7f4ad7f5a6b0c52e970",
    "test_list.txt": "f86b7148857ece3455ef8aa82746b05c",
    "val_data.json": "bf8218b4421b74642214ab3e84423b15",
    "test_data.json": "309072a37a329ee45d66e44b1b55e1e6",
}
_SIZES = {"val_data.json": 1111448, "test_data.json": 1068934}


def _source(folder: str, file: str, what: str) -> Source:
    return Source(f"{folder}/{file}", file, what, md5=_MD5S.get(file), size=_SIZES.get(file))


def _listing(tree: Tree) -> Listing:
    where = f"they are at {_ANNOTATIONS}/ (--download gets them)"
    paths = tree.require(*([f"{part}_data.json"] for part in PARTS), where=where)
    captions: dict[str, list[str]] = {}
    lists: dict[str, list[str]] = {}
    for part, path in zip(PARTS, paths, strict=True):
        found = _paragraphs(path)
        lists[part] = _listed(tree, part, found)
        # a video of two files has the paragraph of the later one, in whose split it is
        captions |= {key: [found[key]] for key in lists[part] if key in found}
    return assign("paragraphs", lists, tree.notes), captions


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


def _listed(tree: Tree, part: str, found: Iterable[str]) -> list[str]:
    """The ids of a split: those of its list, under the names that the annotations have; without a list, all."""
    names = list(found)
    path = tree.find(f"{part}_list.txt")
    if path is None:
        tree.notes.append(
            f"{part}_list.txt is not below {tree.root}: all {len(names):,} videos of {part}_data.json count"
        )
        return names
    by_stem = {stem(name): name for name in names}
    known = set(names)
    ids = [key if key in known else by_stem.get(key, by_stem.get(stem(key), key)) for key in read_lines(path)]
    listed = set(ids)
    extra = [name for name in names if name not in listed]
    if extra:
        tree.notes.append(f"{len(extra):,} videos of {part}_data.json are not in {path.name}, left out: {some(extra)}")
    return ids


def _file(files: Videos, key: str) -> Path | None:
    """The very name; the name with ".mp4" on top (the authors' AWS script); another extension; the bare stem."""
    return files.exact(key, f"{key}.mp4") or files.file(key, stem(key))


DIDEMO = Published(
    name="didemo",
    protocols=("paragraphs",),
    expected={"paragraphs": {"train": (8392, 8392), "val": (1065, 1065), "test": (1004, 1004)}},
    listing=_listing,
    md5s={file: (md5,) for file, md5 in _MD5S.items()},
    find=_file,
    default_sampling="midpoints-30-31s",  # descriptions tell of the first 30 s; CLIP4Clip reads 0 to 31 s
    sources=(
        *(_source(_ANNOTATIONS, f"{part}_data.json", f"descriptions, {part}") for part in PARTS),
        *(_source(_LISTS, f"{part}_list.txt", f"ids, {part}") for part in PARTS),
    ),
    instructions=(
        "get the videos from https://github.com/LisaAnne/LocalizingMoments (download/download_videos_AWS.py, or the "
        "Google Drive folders 1heYHAOJX0mdeLH95jxdfxry6RC_KMVyZ and 1_oyJ5rQiZboipbMl6tkhY8v0s9zDkvJc) and put them "
        "into videos/ in the root; the descriptions tell of the first 30 seconds"
    ),
)
