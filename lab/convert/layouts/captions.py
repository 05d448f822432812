"""Captions for imported features: who says what of which video, and under which query number."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.convert.layouts.survey import less_suffix
from lab.datasets import Caption, Collection, Video
from lab.datasets.reading import read_csv, read_lines
from lab.errors import LabError

log = logging.getLogger(__name__)

ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class Query:
    """A caption; ``qid`` names its text features in the layouts that have them."""

    video: str
    text: str
    split: str = ""
    qid: str = ""


def read_queries(path: Path) -> list[Query]:
    """A .csv with the columns video,caption and optionally split,qid; or Moment-DETR's .jsonl (vid, query, qid).

    Raises LabError naming the line that does not fit.
    """
    if path.suffix.lower() == ".csv":
        rows = read_csv(path, ("video", "caption"), ("split", "qid"))
        return [Query(row["video"], row["caption"], row.get("split", ""), row.get("qid", "")) for _, row in rows]
    return [_query(path, number, line) for number, line in enumerate(read_lines(path), 1)]


def _query(path: Path, number: int, line: str) -> Query:
    try:
        row = json.loads(line)
        video, text = (_first(row, names) for names in (("vid", "video"), ("query", "caption", "desc")))
        return Query(str(video), str(text), str(row.get("split", "")), str(row.get("qid", "")))
    except (ValueError, KeyError, AttributeError):
        need = '{"qid": 1, "vid": "id", "query": "text"}'
        raise LabError(f"{path} line {number} must be JSON such as {need}, got {line[:60]!r}") from None


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise KeyError(names[0])


def collection_of(ids: Iterable[str], queries: Sequence[Query], root: Path) -> tuple[Collection, list[str]]:
    """A collection of the videos that have features or captions, and the query number of each of its captions.

    A caption's video is that of its id, else the one whose id differs by a file's suffix alone. With splits in the
    queries the protocol is ``given``; without any, all is in ``all``. Raises LabError for a video in two splits, and
    where no captioned video has features.
    """
    known_ids = list(ids)
    queries = _joined(known_ids, queries)
    splits: dict[str, str] = dict.fromkeys([*known_ids, *(query.video for query in queries)], "")
    for query in queries:
        known = splits[query.video]
        if known and query.split and known != query.split:
            raise LabError(
                f"video '{query.video}' is in the splits '{known}' and '{query.split}': a video is in one only"
            )
        splits[query.video] = known or query.split
    protocol = "given" if any(splits.values()) else "all"
    if protocol == "all":
        splits = dict.fromkeys(splits, "all")
    order = sorted(splits, key=lambda video: ORDER.index(splits[video]) if splits[video] in ORDER else len(ORDER))
    views = {split: {protocol: split} if split else {} for split in splits.values()}
    rows = {video: row for row, video in enumerate(order)}
    told = sorted(queries, key=lambda query: rows[query.video])
    captions = tuple(Caption(rows[query.video], query.text, views[splits[query.video]]) for query in told)
    videos = tuple(Video(video, None, views[splits[video]]) for video in order)
    return Collection("imported", root, videos, captions, (protocol,), ()), [query.qid for query in told]


def _joined(ids: Sequence[str], queries: Sequence[Query]) -> list[Query]:
    """The queries with the ids that their videos' features have. Raises LabError where none has any."""
    exact = set(ids)
    bare: dict[str, list[str]] = {}
    for name in ids:
        bare.setdefault(less_suffix(name), []).append(name)

    suffixed: dict[str, set[str]] = {}  # a.mp4 and a.avi are two videos, a is either
    for video in (query.video for query in queries):
        suffixed.setdefault(less_suffix(video), set()).update({video} - {less_suffix(video)})

    def meant(video: str) -> str:
        near, alike = bare.get(less_suffix(video), []), suffixed[less_suffix(video)]
        return near[0] if video not in exact and len(near) == 1 and len(alike) < 2 else video

    joined = [replace(query, video=meant(query.video)) for query in queries]
    told = dict.fromkeys(query.video for query in joined)
    without = [video for video in told if video not in exact]
    if told and len(without) == len(told):
        raise LabError(
            f"no captioned video has features: the captions are of videos like '{without[0]}', the features of videos "
            f"like '{ids[0]}': write the one as the other"
        )
    if without:
        log.warning("%d of %d captioned videos have no features (%s, ...)",
                    len(without), len(told), ", ".join(without[:3]))  # fmt: skip
    return joined
