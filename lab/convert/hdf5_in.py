"""The way back: an HDF5 file of ``lab.convert.hdf5_out`` as the store that it was, array for array."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from lab.convert.hdf5_out import EXPORTED, WORDS, content_sha256, word_units
from lab.convert.layouts.hdf5 import dataset, datasets_below, opened, texts, values
from lab.convert.store import blocks, fresh_store, inside
from lab.errors import LabError
from lab.store import Store, open_store
from lab.store.folder import Folder


def import_exported(source: Path, target: Path, *, force: bool = False) -> tuple[Store, bool]:
    """The store that was exported to ``source``, and whether its features are as they were then.

    Raises LabError for a file of a newer version, a damaged one, or where ``target`` is taken.
    """
    with opened(source) as file, fresh_store(target, force) as fresh:
        _require_known(file, source)
        content = content_sha256(file)
        same = content == file.attrs.get("content_sha256")
        try:
            _restore(file, fresh, None if same else content)
            len(Store(fresh).captions)  # a store without its tables must not take a good one's place
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
            raise _damaged(source, f"{type(error).__name__}: {error}") from None
    return open_store(target), same


def _require_known(file: Any, source: Path) -> None:
    try:
        arrangement = int(file.attrs["lab_export"])
    except (TypeError, ValueError):
        raise _damaged(source, "its lab_export is no number") from None
    if arrangement > EXPORTED:
        raise LabError(f"{source} is of arrangement {arrangement}, known is {EXPORTED}: upgrade the lab")


def _damaged(source: Path, why: str) -> LabError:
    return LabError(f"{source} is damaged ({why}): export it again")


def _restore(file: Any, fresh: Path, edited: str | None) -> None:
    about = json.loads(dataset(file, "lab/about")[()])
    attributes = about["attributes"]
    if edited:
        for name, section in attributes["passport"].items():
            section.update({"edited": edited} if name != "dataset" else {})
    group = zarr.create_group(Folder(fresh), attributes=attributes)
    for name, told in about["groups"].items():
        inside(fresh, name)
        group.create_group(name, attributes=told)
    for name, told in about["arrays"].items():
        inside(fresh, name)
        shape, chunks = tuple(told.pop("shape")), tuple(told.pop("chunks"))
        array = group.create_array(name, shape=shape, chunks=chunks, compressors=None, **told)
        whole = about["layout"] == "contiguous" if name == "frames" else name not in WORDS
        for block in blocks(array, chunks[0]) if whole else ():
            array[block] = values(dataset(file, name if name == "frames" else f"lab/arrays/{name}"), block)
    for name in datasets_below(file, "lab/files"):
        path = inside(fresh, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(values(dataset(file, f"lab/files/{name}")).tobytes())
    if "frames" in group and about["layout"] != "contiguous":
        _frames_in(file, group)
    if "words" in group:
        _words_in(file, group)


def _frames_in(file: Any, group: Any) -> None:
    frames, counts = group["frames"], np.asarray(group["frame_count"][:])
    ids = texts(dataset(file, "lab/ids"))
    for block in blocks(frames, frames.chunks[0]):
        held = np.full((block.stop - block.start, *frames.shape[1:]), np.nan, frames.dtype)
        for row, count in zip(range(block.start, block.stop), counts[block], strict=True):
            if count:
                held[row - block.start, :count] = values(dataset(file, ids[row]))
        frames[block] = held


def _words_in(file: Any, group: Any) -> None:
    start, count = (np.asarray(group[name][:], np.int64) for name in ("word_start", "word_count"))
    damage = f"{file.filename} is damaged, words lie outside their array: export the store again"
    for name, label in zip(WORDS, ("values", "token_ids", "token_word"), strict=True):
        array, told = group[name], dataset(file, f"lab/words/{label}")
        for first, base, rows in word_units(start, count, array.shape[0], damage):
            block = slice(base, base + int(rows.max(initial=-1)) + 1)
            held = array[block]
            held[rows] = values(told, slice(first, first + len(rows)))
            array[block] = held
