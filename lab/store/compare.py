"""Two stores side by side: which settings differ, and how far their features lie apart, video by video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.store.layout import CHUNK_VIDEOS
from lab.store.passport import differences
from lab.store.reader import Store


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
    fields = differences(first.passport, second.passport)
    fields += [f"{name}: only in one of them" for name in sorted(first.passport.keys() ^ second.passport.keys())]
    ids = [[video["id"] for video in store.videos] for store in (first, second)]
    rows = [{name: row for row, name in enumerate(names)} for names in ids]
    shared = [name for name in ids[0] if name in rows[1]]
    both = [np.asarray([table[name] for name in shared], np.int64) for table in rows]
    result = Comparison(
        fields, [n for n in ids[0] if n not in rows[1]], [n for n in ids[1] if n not in rows[0]], {}, {}, {}
    )
    for name, array in (("frames", "frames"), ("audio", "audio_segments")):
        if name in first.passport and name in second.passport:
            _pairs(result, name, first, second, array, both[0], both[1], shared)
    if "text" in first.passport and "text" in second.passport:
        captions = [_captions(store) for store in (first, second)]
        common = [key for key in captions[0] if key in captions[1]]
        at = [np.asarray([table[key] for key in common], np.int64) for table in captions]
        _pairs(
            result, "text", first, second, "sentences", at[0], at[1], [f"{video}: {text}" for video, text, _ in common]
        )
    return result


def _captions(store: Store) -> dict[tuple[str, str, int], int]:
    """Caption rows by video, text and how many equal ones came before (duplicates are usual in MSVD)."""
    seen: dict[tuple[str, str], int] = {}
    table = {}
    for row, caption in enumerate(store.captions):
        key = (store.videos[caption["video"]]["id"], caption["text"])
        seen[key] = seen.get(key, 0) + 1
        table[(*key, seen[key])] = row
    return table


def _pairs(
    result: Comparison,
    name: str,
    first: Store,
    second: Store,
    array: str,
    rows_a: NDArray[np.int64],
    rows_b: NDArray[np.int64],
    labels: list[str],
) -> None:
    """Fills in one modality: for each pair of rows the lowest cosine of their vectors, where both have data."""
    one, two = first.array(array), second.array(array)
    lowest = np.full(len(rows_a), np.nan)
    identical = one.shape[1:] == two.shape[1:]
    if identical:
        for start in range(0, len(rows_a), CHUNK_VIDEOS):
            part = slice(start, start + CHUNK_VIDEOS)
            a, b = (_rows(store_array, rows[part]) for store_array, rows in ((one, rows_a), (two, rows_b)))
            identical &= bool(np.array_equal(a.view(np.uint16), b.view(np.uint16)))
            lowest[part] = _lowest_cosine(a, b)
    held = ~np.isnan(lowest)
    result.cosines[name] = lowest[held]
    result.labels[name] = [label for label, keep in zip(labels, held, strict=True) if keep]
    result.identical[name] = identical


def _rows(array: Any, rows: NDArray[np.int64]) -> NDArray[np.float16]:
    """Some rows of a zarr array, in any order, by way of the slab that spans them."""
    low = int(rows.min())
    return np.ascontiguousarray(array[low : int(rows.max()) + 1][rows - low])


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
