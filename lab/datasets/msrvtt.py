"""MSR-VTT: 10,000 videos with 20 captions each, under three protocols of retrieval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from lab.datasets.assemble import Row, assemble, assign, refuse_split
from lab.datasets.collection import Collection, Expected, Splits
from lab.datasets.reading import check_published, read_csv, read_json, short
from lab.datasets.tree import Tree, Videos, require_files, some
from lab.download import Source
from lab.errors import LabError

_TEST = ("MSRVTT_JSFUSION_test.csv", "msrvtt_test.csv")  # the second is its name in MIL-NCE
_CAPTIONS = ("MSRVTT_data.json", "MSR_VTT.json")  # the second in Frozen's archive
_OFFICIAL = ("train_val_videodatainfo.json", "test_videodatainfo.json")
_LISTS = {"1k-A-9k": "MSRVTT_train.9k.csv", "1k-A-7k": "MSRVTT_train.7k.csv"}
_PUBLISHED = {
    "1k-A-9k": "ef90cc53358a143f2f56692c4e3a7232",
    "1k-A-7k": "97e0244f1bd3d0617f3c1f81403937f1",
    "test": "612aec578f1324a550ecc552b3bdbf6c",
}
_FULL = {"train": range(6513), "val": range(6513, 7010), "test": range(7010, 10000)}


class MSRVTT:
    """``1k-A-9k`` and ``1k-A-7k`` (the 1,000 JSFUSION pairs as test), and ``full``, the official split.

    1k-A has no validation split; both published codes choose their checkpoint on the test split. Here the 497 official
    validation videos, which lie inside both training lists, become one, with one caption each as the test has.
    """

    name = "msrvtt"
    protocols: tuple[str, ...] = ("1k-A-9k", "1k-A-7k", "full")
    default_sampling = "midpoints-12"
    expected: ClassVar[Expected] = {
        "1k-A-9k": {"train": (8503, 170060), "val": (497, 497), "test": (1000, 1000)},
        "1k-A-7k": {"train": (6513, 130260), "val": (497, 497), "test": (1000, 1000)},
        "full": {"train": (6513, 130260), "val": (497, 9940), "test": (2990, 59800)},
    }
    sources: tuple[Source, ...] = (
        Source(
            "https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msrvtt_data.zip",
            "msrvtt_data.zip",
            "captions and splits",
            unpack=True,
        ),
        Source(
            "https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip", "MSRVTT.zip", "videos", unpack=True
        ),
    )
    instructions = (
        "put MSRVTT_data.json, MSRVTT_train.9k.csv, MSRVTT_train.7k.csv and MSRVTT_JSFUSION_test.csv into the root and "
        "the videos into videos/videoN.mp4"
    )

    def read(self, root: Path, *, split: str | None = None, seed: int = 0) -> Collection:
        """See ``Dataset.read``. Without the captions file only the 1,000 test captions are there; a note says so."""
        refuse_split(self.name, split)
        tree = Tree(root, self.name)
        notes = list(tree.notes)
        where = f"they are in {self.sources[0].url} (--download gets it)"
        texts = _read_captions(tree)
        pairs = tree.find(*_TEST)
        if pairs is None and texts is None:
            require_files(self.name, tree.root, {_TEST[0]: None, " or ".join(_CAPTIONS): None}, where)
        if texts is None:
            notes.append(f"{_CAPTIONS[0]} is not below {tree.root}: no caption for training; {where}")
        views = {"full": _official()}
        tests: dict[str, str] = {}
        if pairs is None:
            notes.append(f"{_TEST[0]} is not below {tree.root}: protocol full alone; {where}")
        else:
            tests = _read_tests(pairs, notes)
            for protocol, file in _LISTS.items():
                train = _read_train(tree, protocol, file, tests, notes)
                views[protocol] = _carved(protocol, train, tests, notes)
        ids = sorted({key for view in views.values() for key in view}, key=_number)
        files = Videos(tree, (".mp4", ".webm"))
        videos, captions = _merge(ids, views, texts or {}, tests, notes)
        return assemble(
            self.name,
            tree.root,
            videos=videos,
            captions=captions,
            files={key: files.file(key) for key in ids},
            protocols=[protocol for protocol in self.protocols if protocol in views],
            expected=self.expected,
            notes=notes + files.notes(),
        )


def _number(key: str) -> tuple[int, str]:
    """Order by the number of "videoN", with what is not such an id last."""
    digits = key.removeprefix("video")
    return (int(digits), key) if digits.isascii() and digits.isdigit() else (10**9, key)


def _ids(numbers: Iterable[int]) -> list[str]:
    return [f"video{number}" for number in numbers]


def _official() -> dict[str, Splits]:
    return assign("full", {part: _ids(numbers) for part, numbers in _FULL.items()}, [])


def _read_captions(tree: Tree) -> dict[str, list[str]] | None:
    """Id -> captions in the order of the file, or None where there is no such file."""
    one = tree.find(*_CAPTIONS)
    paths = [one] if one else [path for name in _OFFICIAL if (path := tree.find(name))]
    captions: dict[str, list[str]] = {}
    for path in paths:
        found = read_json(path)
        rows = (found.get("sentences") or found.get("annotations")) if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise LabError(f'{path} must have a list "sentences" (or "annotations"), it has none: get the file again')
        for place, row in enumerate(rows, 1):
            key = (row.get("video_id") or row.get("image_id")) if isinstance(row, dict) else None
            if not isinstance(key, str) or not isinstance(row.get("caption"), str):
                raise LabError(
                    f"{path} must have video_id and caption in each sentence, number {place} is {short(row)}"
                )
            captions.setdefault(key, []).append(row["caption"])
    return captions if paths else None


def _read_tests(path: Path, notes: list[str]) -> dict[str, str]:
    """Id -> its one test caption, in the order of the JSFUSION list."""
    notes += check_published(path, (_PUBLISHED["test"],))
    tests: dict[str, str] = {}
    twice = []
    for _, row in read_csv(path, ("video_id", "sentence")):
        if row["video_id"] in tests:
            twice.append(row["video_id"])
        tests.setdefault(row["video_id"], row["sentence"])
    if twice:
        notes.append(f"{len(twice):,} ids stand twice in {path.name}, their first sentence counts: {some(twice)}")
    return tests


def _read_train(tree: Tree, protocol: str, file: str, tests: Mapping[str, str], notes: list[str]) -> list[str]:
    """The ids of a training list; where it is absent, what it is known to hold."""
    path = tree.find(file)
    if path is not None:
        notes += check_published(path, (_PUBLISHED[protocol],))
        return [row["video_id"] for _, row in read_csv(path, ("video_id",))]
    # The published lists hold just that: 9k and the test list make up all 10,000, 7k is the official train and val.
    notes.append(f"{file} is not below {tree.root}: {protocol} is made from the official split and the test list")
    if protocol == "1k-A-7k":
        return _ids(range(7010))
    return [key for key in _ids(range(10000)) if key not in tests]


def _carved(protocol: str, train: Iterable[str], tests: Iterable[str], notes: list[str]) -> dict[str, Splits]:
    """Id -> split of a 1k-A protocol, with the official validation videos taken out of its training list."""
    held = set(_ids(_FULL["val"]))
    ids = list(train)
    lists = {
        "train": [key for key in ids if key not in held],
        "val": [key for key in ids if key in held],
        "test": list(tests),
    }
    return assign(protocol, lists, notes)


def _merge(
    ids: Iterable[str],
    views: Mapping[str, Mapping[str, Splits]],
    texts: Mapping[str, list[str]],
    tests: Mapping[str, str],
    notes: list[str],
) -> tuple[dict[str, Splits], dict[str, list[Row]]]:
    """The splits of each video, and its captions with theirs.

    In 1k-A a training video has all its captions, a validation video its first, a test video the one of the list.
    """
    shared: dict[tuple[tuple[str, str], ...], Splits] = {}  # one mapping per combination, not one per caption

    def share(splits: Splits) -> Splits:
        return shared.setdefault(tuple(splits.items()), splits)

    videos: dict[str, Splits] = {}
    captions: dict[str, list[Row]] = {}
    added = []
    for key in ids:
        videos[key] = whole = share({name: part for view in views.values() for name, part in view.get(key, {}).items()})
        rows = texts.get(key, [])
        bare = share({name: part for name, part in whole.items() if name == "full" or part == "train"})
        first = share({name: part for name, part in whole.items() if name in bare or part == "val"})
        captions[key] = [(text, bare if place else first) for place, text in enumerate(rows)]
        if key in tests:
            query = {name: part for name, part in whole.items() if name != "full" and part == "test"}
            same = _place(rows, tests[key])
            if same is None:
                captions[key].append((tests[key], share(query)))
                added.append(key)
            else:
                text, splits = captions[key][same]
                captions[key][same] = (text, share({**splits, **query}))
    if texts and added:
        notes.append(f"{len(added):,} test captions are none of their video's captions and are added: {some(added)}")
    for key in [key for key in texts if key not in videos]:
        captions[key] = [(text, {}) for text in texts[key]]
    return videos, captions


def _place(texts: list[str], wanted: str) -> int | None:
    """The place of a text, compared as CLIP's tokenizer sees it: without case and runs of blanks."""
    plain = " ".join(wanted.lower().split())
    return next((place for place, text in enumerate(texts) if " ".join(text.lower().split()) == plain), None)
