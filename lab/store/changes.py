"""How a data set differs from the one that a store was made of, in words: its passport holds only a hash of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.store import passport as passports
from lab.store.reader import Store

if TYPE_CHECKING:
    from lab.datasets import Collection

_SHOWN = 3


def require_same_data(store: Store, collection: Collection) -> None:
    """Raises ``LabError`` where a store is of another data set, or of another state of it, and says what differs."""
    stored = store.passport.get("dataset")
    if stored is None:
        return
    remedy = "Give the new features another --name"
    passports.require_same({"dataset": {"name": stored.get("name")}}, {"dataset": {"name": collection.name}},
                           str(store.path), remedy)  # fmt: skip
    if stored.get("version") == collection.version:
        return
    told = "; ".join(changes(store, collection)) or "its order or its ground truth"
    other = _free(store.path)
    raise LabError(
        f"{store.path} was made of other data, since then: {told}. Its rows are fixed: make another store with "
        f"--name {other.name.removesuffix('.zarr')}, which other commands take as --store {other}, or move the old one "
        f"out of {store.path.parent} and run the same command again"
    )


def changes(store: Store, collection: Collection) -> list[str]:
    """One phrase for each way in which a collection differs from a store's tables; none where only the order does."""
    before = {video["id"]: video["splits"] for video in store.videos}
    now = {video.id: dict(video.splits) for video in collection.videos}
    said_before = _said((store.videos[row["video"]]["id"], row["text"]) for row in store.captions)
    said_now = _said((collection.videos[caption.video].id, caption.text) for caption in collection.captions)
    both = [key for key in now if key in before]
    other = {key: said_now.get(key, Counter()) - said_before.get(key, Counter()) for key in both}
    gone = {key: said_before.get(key, Counter()) - said_now.get(key, Counter()) for key in both}
    counts = {key: max(other[key].total(), gone[key].total()) for key in both if other[key] or gone[key]}
    told = [
        _phrase("video came", "videos came", [key for key in now if key not in before]),
        _phrase("video went", "videos went", [key for key in before if key not in now]),
        _phrase("caption differs", "captions differ", list(counts), sum(counts.values())),
        _phrase("video is in another split", "videos are in other splits", [k for k in both if before[k] != now[k]]),
    ]
    return [phrase for phrase in told if phrase]


def _said(rows: Iterable[tuple[str, str]]) -> Mapping[str, Counter[str]]:
    said: dict[str, Counter[str]] = {}
    for key, text in rows:
        said.setdefault(key, Counter())[text] += 1
    return said


def _phrase(one: str, many: str, videos: list[str], count: int | None = None) -> str:
    """``2 videos came (a.mp4, b.mp4)``; nothing where there is none."""
    if not videos:
        return ""
    shown = ", ".join(videos[:_SHOWN]) + (", ..." if len(videos) > _SHOWN else "")
    total = len(videos) if count is None else count
    return f"{total:,} {one if total == 1 else many} ({shown})"


def _free(path: Path) -> Path:
    """``NAME-2.zarr`` beside a store, or the first number after that which nobody has."""
    number, stem = 2, path.name.removesuffix(".zarr")
    while (found := path.with_name(f"{stem}-{number}.zarr")).exists():
        number += 1
    return found
