"""MSR-VTT: 10,000 videos with 20 captions each, under three protocols of retrieval.

``1k-A-9k`` and ``1k-A-7k`` (the 1,000 JSFUSION pairs as test), and ``full``, the official split. 1k-A has no
validation split; both published codes choose their checkpoint on the test split. Here the 497 official validation
videos, which lie inside both training lists, become one, with one caption each as the test has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lab.datasets.assemble import Row, assign, merge
from lab.datasets.collection import Splits
from lab.datasets.divide import carve
from lab.datasets.published import Listing, Published
from lab.datasets.reading import read_csv, read_json, short
from lab.datasets.tree import Tree, some
from lab.download import Source
from lab.errors import LabError

_URL = "https://github.com/ArrowLuo/CLIP4Clip/releases/download/v0.0/msrvtt_data.zip"
_WHERE = f"they are in {_URL} (--download gets it)"
_TEST = ("MSRVTT_JSFUSION_test.csv", "msrvtt_test.csv")  # the second is its name in MIL-NCE
_CAPTIONS = ("MSRVTT_data.json", "MSR_VTT.json")  # the second in Frozen's archive
_OFFICIAL = ("train_val_videodatainfo.json", "test_videodatainfo.json")
_TRAIN = {"1k-A-9k": "MSRVTT_train.9k.csv", "1k-A-7k": "MSRVTT_train.7k.csv"}
_FULL = {"train": range(6513), "val": range(6513, 7010), "test": range(7010, 10000)}


def _listing(tree: Tree) -> Listing:
    """Without the captions file only the 1,000 test captions are there; a note says so."""
    texts = _read_captions(tree)
    pairs = tree.find(*_TEST)
    if pairs is None and texts is None:
        tree.require(_TEST[:1], _CAPTIONS, where=_WHERE)
    if texts is None:
        tree.notes.append(f"{_CAPTIONS[0]} is not below {tree.root}: no caption for training; {_WHERE}")
    official = {part: _ids(numbers) for part, numbers in _FULL.items()}
    views = [assign("full", official, tree.notes)]
    tests: dict[str, str] = {}
    if pairs is None:
        tree.notes.append(f"{_TEST[0]} is not below {tree.root}: protocol full alone; {_WHERE}")
    else:
        tests = _read_tests(pairs, tree.notes)
        for protocol, file in _TRAIN.items():
            train = _read_train(tree, protocol, file, tests)
            lists = {**carve(train, set(official["val"])), "test": list(tests)}
            views.append(assign(protocol, lists, tree.notes))
    merged = merge(views)
    videos = {key: merged[key] for key in sorted(merged, key=_number)}
    return videos, _captions(videos, texts or {}, tests, tree.notes)


def _number(key: str) -> tuple[int, str]:
    """Order by the number of "videoN", with what is not such an id last."""
    digits = key.removeprefix("video")
    return (int(digits), key) if digits.isascii() and digits.isdigit() else (10**9, key)


def _ids(numbers: Iterable[int]) -> list[str]:
    return [f"video{number}" for number in numbers]


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
    tests: dict[str, str] = {}
    twice = []
    for _, row in read_csv(path, ("video_id", "sentence")):
        if row["video_id"] in tests:
            twice.append(row["video_id"])
        tests.setdefault(row["video_id"], row["sentence"])
    if twice:
        notes.append(f"{len(twice):,} ids stand twice in {path.name}, their first sentence counts: {some(twice)}")
    return tests


def _read_train(tree: Tree, protocol: str, file: str, tests: Mapping[str, str]) -> list[str]:
    """The ids of a training list; where it is absent, what it is known to hold."""
    path = tree.find(file)
    if path is not None:
        return [row["video_id"] for _, row in read_csv(path, ("video_id",))]
    # The published lists hold just that: 9k and the test list make up all 10,000, 7k is the official train and val.
    tree.notes.append(f"{file} is not below {tree.root}: {protocol} is made from the official split and the test list")
    if protocol == "1k-A-7k":
        return _ids(range(7010))
    return [key for key in _ids(range(10000)) if key not in tests]


def _captions(
    videos: Mapping[str, Splits], texts: Mapping[str, list[str]], tests: Mapping[str, str], notes: list[str]
) -> dict[str, Sequence[Row]]:
    """Id -> captions with their splits: in 1k-A a training video has all its captions, a validation video its first,
    a test video the one of the list.
    """
    captions: dict[str, Sequence[Row]] = dict(texts)
    added = []
    for key, splits in videos.items():
        every = {protocol: part for protocol, part in splits.items() if protocol == "full" or part == "train"}
        first = {protocol: part for protocol, part in splits.items() if protocol in every or part == "val"}
        query = {protocol: part for protocol, part in splits.items() if protocol != "full" and part == "test"}
        said = [(text, every if place else first) for place, text in enumerate(texts.get(key, ()))]
        if key in tests:
            same = _place([text for text, _ in said], tests[key])
            if same is None:
                said.append((tests[key], query))
                added.append(key)
            else:
                text, counts = said[same]
                said[same] = (text, counts | query)
        captions[key] = said
    if texts and added:
        notes.append(f"{len(added):,} test captions are none of their video's captions and are added: {some(added)}")
    return captions


def _place(texts: list[str], wanted: str) -> int | None:
    """The place of a text, compared as CLIP's tokenizer sees it: without case and runs of blanks."""
    plain = " ".join(wanted.lower().split())
    return next((place for place, text in enumerate(texts) if " ".join(text.lower().split()) == plain), None)


MSRVTT = Published(
    name="msrvtt",
    protocols=("1k-A-9k", "1k-A-7k", "full"),
    expected={
        "1k-A-9k": {"train": (8503, 170060), "val": (497, 497), "test": (1000, 1000)},
        "1k-A-7k": {"train": (6513, 130260), "val": (497, 497), "test": (1000, 1000)},
        "full": {"train": (6513, 130260), "val": (497, 9940), "test": (2990, 59800)},
    },
    listing=_listing,
    md5s={
        "MSRVTT_train.9k.csv": ("ef90cc53358a143f2f56692c4e3a7232",),
        "MSRVTT_train.7k.csv": ("97e0244f1bd3d0617f3c1f81403937f1",),
        **dict.fromkeys(_TEST, ("612aec578f1324a550ecc552b3bdbf6c",)),
    },
    suffixes=(".mp4", ".webm"),
    sources=(
        Source(_URL, "msrvtt_data.zip", "captions and splits", unpack=True),
        Source(
            "https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/data/MSRVTT.zip", "MSRVTT.zip", "videos", unpack=True
        ),
    ),
    instructions=(
        "put MSRVTT_data.json, MSRVTT_train.9k.csv, MSRVTT_train.7k.csv and MSRVTT_JSFUSION_test.csv into the root and "
        "the videos into videos/videoN.mp4"
    ),
)
