"""From what the lists and caption files say to a Collection: order, grouping, counts, and what to tell about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lab.datasets.collection import SPLIT_ORDER, Caption, Collection, Expected, Splits, Video
from lab.datasets.tree import some
from lab.errors import LabError

#: A caption that counts where its video does; one and where it counts; the same, its seconds, if it needs the sound.
Row = str | tuple[str, Splits] | tuple[str, Splits, tuple[float, float] | None, bool | None]


def refuse_split(dataset: str, split: str | None) -> None:
    """Raise LabError for --split on a data set that has splits of its own."""
    if split is not None:
        raise LabError(
            f"--split is for --dataset folder, {dataset} has its own splits, got --split {split}: leave it out"
        )


def assign(protocol: str, lists: Mapping[str, Iterable[str]], notes: list[str]) -> dict[str, Splits]:
    """Id -> {protocol: split} from the ids of each split, in the order of the lists.

    An id that is in several lists goes to the one that is held out most (test, then val), so that nothing of a test
    split is trained on; a note names it.
    """
    views: dict[str, Splits] = {split: {protocol: split} for split in lists}
    chosen: dict[str, str] = {}
    repeated, contested = [], []
    for split, ids in lists.items():
        for key in ids:
            before = chosen.get(key)
            if before is None:
                chosen[key] = split
            elif before == split:
                repeated.append(key)
            else:
                contested.append(f"{key} ({before}, {split})")
                chosen[key] = max(before, split, key=SPLIT_ORDER.index)
    if repeated:
        notes.append(f"{len(repeated):,} ids stand twice in one list and count once: {some(repeated)}")
    if contested:
        notes.append(f"{len(contested):,} ids are in two splits and stay in the later one alone: {some(contested)}")
    return {key: views[split] for key, split in chosen.items()}


def merge(views: Iterable[Mapping[str, Splits]]) -> dict[str, Splits]:
    """Id -> its splits under all protocols, from those under each."""
    merged: dict[str, dict[str, str]] = {}
    for view in views:
        for key, splits in view.items():
            merged.setdefault(key, {}).update(splits)
    return dict(merged)


def assemble(
    name: str,
    root: Path,
    *,
    videos: Mapping[str, Splits],
    captions: Mapping[str, Sequence[Row]],
    files: Mapping[str, Path | None],
    protocols: Sequence[str],
    expected: Expected,
    notes: Iterable[str] = (),
) -> Collection:
    """The Collection of ``videos`` (ids in their order) and of the rows of ``captions`` whose video is listed.

    Paragraphs (DiDeMo, ActivityNet) tell of all that was described and so have no seconds of their own.
    """
    told = list(notes)
    first = protocols[0]
    places = {split: place for place, split in enumerate(SPLIT_ORDER)}
    order = sorted(videos, key=lambda key: places.get(videos[key].get(first, ""), len(places)))
    kept: list[Caption] = []
    bare, empty = [], []
    for row, key in enumerate(order):
        before = len(kept)
        for said in captions.get(key, ()):
            caption = Caption(row, said, videos[key]) if isinstance(said, str) else Caption(row, *said)
            if caption.text.strip():
                kept.append(caption)
            else:
                empty.append(key)
        if len(kept) == before:
            bare.append(key)
    if empty:
        told.append(f"{len(empty):,} captions are empty and left out: {some(empty)}")
    if bare and (captions or expected):  # of a folder without captions it was said already
        told.append(f"{len(bare):,} videos have no caption: {some(bare)}")
    strays = [key for key in captions if key not in videos]
    if strays:
        rows = sum(len(captions[key]) for key in strays)
        told.append(f"{rows:,} captions of {len(strays):,} videos that no list names are left out: {some(strays)}")
    there = tuple(Video(key, files.get(key), videos[key]) for key in order)
    collection = Collection(name, root, there, tuple(kept), tuple(protocols), notes=())
    return replace(collection, notes=(*told, *_differences(collection, expected)))


def _differences(collection: Collection, expected: Expected) -> list[str]:
    """One line for each split whose counts are not the expected ones."""
    lines = []
    for protocol in collection.protocols:
        found = collection.splits(protocol)
        for split, counts in expected.get(protocol, {}).items():
            have = found.get(split, (0, 0))
            videos = have[0] if counts[0] is None else counts[0]
            if have != (videos, counts[1]):
                view = collection.name if len(expected) == 1 else f"{collection.name} {protocol}"
                lines.append(
                    f"{view} {split}: expected {videos:,} videos and {counts[1]:,} captions, "
                    f"found {have[0]:,} and {have[1]:,}"
                )
    return lines
