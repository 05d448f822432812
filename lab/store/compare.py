"""Two stores side by side: which settings differ, and how far their features lie apart, video by video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.store.layout import CHUNK_VIDEOS
from lab.store.passport import differences
from lab.store.reader import Store

#: Modality → the array that is compared.
ARRAYS = {"frames": "frames", "audio": "audio_segments", "text": "sentences"}
Rows = dict[tuple[str, ...], int]


@dataclass(frozen=True)
class Comparison:
    """What two stores share. ``cosines``: modality → (videos or captions,) lowest cosine of each one that both hold."""

    fields: list[str]
    only_first: list[str]
    only_second: list[str]
    cosines: dict[str, NDArray[np.float64]]
    labels: dict[str, list[str]]
    identical: dict[str, bool]


def compare(first: Store, second: Store) -> Comparison:
    """Compares by video id and by caption text within a video, so the orders of the two may differ."""
    stores = (first, second)
    fields = differences(first.passport, second.passport)
    fields += [f"{name}: only in one of them" for name in sorted(first.passport.keys() ^ second.passport.keys())]
    mine, theirs = ({video["id"]: None for video in store.videos} for store in stores)
    result = Comparison(fields, [n for n in mine if n not in theirs], [n for n in theirs if n not in mine], {}, {}, {})
    for name in (name for name in ARRAYS if all(name in store.passport for store in stores)):
        one, two = (_captions(store) if name == "text" else _videos(store) for store in stores)
        common = [key for key in one if key in two]
        rows = [np.asarray([table[key] for key in common], np.int64) for table in (one, two)]
        lowest, result.identical[name] = _lowest(stores, ARRAYS[name], rows)
        held = ~np.isnan(lowest)
        result.cosines[name] = lowest[held]
        result.labels[name] = [": ".join(key[:2]) for key, keep in zip(common, held, strict=True) if keep]
    return result


def _videos(store: Store) -> Rows:
    return {(video["id"],): row for row, video in enumerate(store.videos)}


def _captions(store: Store) -> Rows:
    """Caption rows by video, text and how many equal ones came before (duplicates are usual in MSVD)."""
    seen = Counter[tuple[str, str]]()
    table: Rows = {}
    for row, caption in enumerate(store.captions):
        key = (store.videos[caption["video"]]["id"], caption["text"])
        table[(*key, str(seen[key]))] = row
        seen[key] += 1
    return table


def _lowest(stores: Sequence[Store], array: str, rows: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.float64], bool]:
    """For each pair of rows the lowest cosine of their vectors (n,), NaN without data; whether all are the same."""
    lowest = np.full(len(rows[0]), np.nan)
    one, two = (store.array(array).shape[1:] for store in stores)
    if one != two:
        return lowest, False
    identical = True
    for start in range(0, len(lowest), CHUNK_VIDEOS):
        part = slice(start, start + CHUNK_VIDEOS)
        a, b = (store.take(array, held[part]) for store, held in zip(stores, rows, strict=True))
        identical &= a.tobytes() == b.tobytes()
        lowest[part] = _lowest_cosine(a, b)
    return lowest, identical


def _lowest_cosine(a: NDArray[np.float16], b: NDArray[np.float16]) -> NDArray[np.float64]:
    """The lowest cosine (n,) over the vectors that both have; NaN if there is none, −1 if only one of them has it."""
    x, y = (values.astype(np.float64).reshape(len(values), -1, values.shape[-1]) for values in (a, b))
    norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(norms > 0, (x * y).sum(-1) / norms, 1.0)
    mine, theirs = np.isfinite(x).all(-1), np.isfinite(y).all(-1)
    cosine = np.where(mine & theirs, cosine, np.where(mine ^ theirs, -1.0, np.inf))
    lowest = np.asarray(cosine.min(axis=1), np.float64)
    return np.where(np.isinf(lowest), np.nan, lowest)
