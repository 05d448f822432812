"""A store as one HDF5 file and back, array for array.

    ids (V,), frames (V, F, D), frame_count (V,)      layout contiguous; NaN in the padding
    VIDEO-ID (f, D)                                   layout per-video: one dataset for each video that has frames
    lab/ids (V,)  lab/captions (T,)  lab/caption_video (T,)       what the rows are
    lab/words/values (W, D)  lab/words/offsets (T + 1,)           of caption t: values[offsets[t] : offsets[t + 1]]
    lab/words/token_ids (W,)  lab/words/token_word (W,)
    lab/arrays/NAME                                   every other array of the store under its own name
    lab/files/NAME  lab/about                         tables, ledger, passport: for the way back

The file carries a SHA-256 of its content. Features that were edited are other features: on the way back their passport
says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lab.atomic import replaced, require_replaceable, require_room_for
from lab.convert.layouts.hdf5 import RESERVED, dataset, datasets_below, opened, texts, values
from lab.convert.store import Contents, blocks, contents
from lab.errors import LabError, unknown
from lab.store import UNIT_CAPTIONS, Store
from lab.store.layout import token_rows

LAYOUTS = ("per-video", "contiguous")
EXPORTED = 1  # version of this arrangement
WORDS = ("words", "token_ids", "token_word")


def is_exported(path: Path) -> bool:
    """Whether ``path`` is an HDF5 file that this module wrote."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with opened(path) as file:
        return "lab_export" in file.attrs


def export_store(store: Store, target: Path, layout: str = "per-video", *, force: bool = False) -> Path:
    """Write ``store`` into one HDF5 file. Raises LabError where it exists (unless ``force``), or an id does not fit."""
    if layout not in LAYOUTS:
        raise unknown("layout to write", layout, LAYOUTS)
    require_replaceable(target, links=False)
    if target.exists() and not force:
        raise LabError(f"{target} exists: choose another name, or replace it with --force")
    require_room_for(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    found = contents(store)
    with replaced(target) as fresh, h5py.File(fresh, "w") as file:
        group = file.create_group(RESERVED)
        if "frames" in found.arrays:
            _frames_out(store, file, found.arrays["frames"], layout)
        file["lab/ids"] = _strings(video["id"] for video in store.videos)
        file["lab/captions"] = _strings(caption["text"] for caption in store.captions)
        file["lab/caption_video"] = np.asarray([caption["video"] for caption in store.captions], np.int64)
        if "words" in found.arrays:
            _words_out(store, group.create_group("words"))
        for name, array in found.arrays.items():
            if name not in ("frames", *WORDS):
                _copy(array, group, f"arrays/{name}")
        for name, path in found.files.items():
            group[f"files/{name}"] = np.frombuffer(path.read_bytes(), np.uint8)
        group["about"] = json.dumps(_about(store, found, layout))
        file.attrs["lab_export"] = EXPORTED
        file.attrs["content_sha256"] = content_sha256(file)
    return target


def _about(store: Store, found: Contents, layout: str) -> dict[str, Any]:
    """What zarr needs to know to make the store again."""
    arrays = {
        name: {
            "shape": array.shape,
            "dtype": array.dtype.str,
            "chunks": array.chunks,
            "fill_value": array.fill_value.item(),
            "attributes": dict(array.attrs),
        }
        for name, array in found.arrays.items()
    }
    return {"attributes": dict(store.group.attrs), "groups": found.groups, "arrays": arrays, "layout": layout}


def _copy(array: Any, group: Any, name: str) -> None:
    made = group.create_dataset(name, array.shape, array.dtype)
    for block in blocks(array, array.chunks[0]):
        made[block] = array[block]


def _frames_out(store: Store, file: Any, frames: Any, layout: str) -> None:
    counts = np.asarray(store.array("frame_count")[:])
    ids = [video["id"] for video in store.videos]
    if layout == "contiguous":
        file["ids"], file["frame_count"] = _strings(ids), counts
        _copy(frames, file, "frames")
        return
    for block in blocks(frames, frames.chunks[0]):
        held = frames[block]
        for row, count in zip(range(block.start, block.stop), counts[block], strict=True):
            if count:
                _put(file, ids[row], held[row - block.start, :count])


def _put(file: Any, video: str, features: NDArray[Any]) -> None:
    parts = PurePosixPath(video).parts
    plain = "/".join(parts) == video and parts[0] != RESERVED and not {".", "..", "/"} & set(parts)
    try:
        if not plain:
            raise ValueError("not a plain HDF5 path")
        file[video] = features
    except (ValueError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise LabError(
            f"id '{video}' cannot be the name of an HDF5 dataset ({error}): use --layout contiguous"
        ) from None


def _strings(items: Iterable[str]) -> NDArray[np.object_]:
    """Text as HDF5 takes it; the odd bytes of a file name become escapes."""
    found = [item.encode("utf-8", "backslashreplace").decode() for item in items]
    return np.asarray(found, dtype=h5py.string_dtype())


def _words_out(store: Store, group: Any) -> None:
    """Words without the store's gaps between units."""
    start, count = (np.asarray(store.array(name)[:], np.int64) for name in ("word_start", "word_count"))
    path = store.path
    damage = f"{path} is damaged, words lie outside their array: python -m lab.inspect {path} --verify tells more"
    offsets = np.concatenate([[0], np.cumsum(count)])
    group["offsets"] = offsets
    for name, label in zip(WORDS, ("values", "token_ids", "token_word"), strict=True):
        array = store.array(name)
        made = group.create_dataset(label, (int(offsets[-1]), *array.shape[1:]), array.dtype)
        for first, base, rows in word_units(start, count, array.shape[0], damage):
            made[first : first + len(rows)] = array[base : base + int(rows.max(initial=-1)) + 1][rows]


def word_units(
    start: NDArray[Any], count: NDArray[Any], length: int, damage: str
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """For each unit of captions: its first ragged row, a base in the store's array, its rows there less the base.

    Raises ``LabError(damage)`` where rows lie outside an array of ``length``.
    """
    first = 0
    for unit in range(0, len(count), UNIT_CAPTIONS):
        own, begin = count[unit : unit + UNIT_CAPTIONS], start[unit : unit + UNIT_CAPTIONS]
        rows = token_rows(begin, own)
        if len(rows) and not (rows.min() >= 0 and rows.max() < length):
            raise LabError(damage)
        base = int(rows.min(initial=length)) if len(rows) else 0
        yield first, base, rows - base
        first += len(rows)


def content_sha256(file: Any) -> str:
    """SHA-256 over the names, types, shapes and bytes of every dataset."""
    digest = hashlib.sha256()
    for name in sorted(datasets_below(file)):
        found = dataset(file, name)
        if h5py.check_string_dtype(found.dtype) is not None:
            digest.update(json.dumps([name, texts(found) if found.ndim else str(found.asstr()[()])]).encode())
            continue
        digest.update(json.dumps([name, found.dtype.str, found.shape]).encode())
        for block in blocks(found) if found.ndim else []:
            digest.update(np.ascontiguousarray(values(found, block)).tobytes())
    return digest.hexdigest()
