"""A copy of a store in few files: many chunks in a shard, for file systems where files are scarce."""

from __future__ import annotations

import shutil
from pathlib import Path

import zarr

from lab.convert.store import blocks, contents, fresh_store
from lab.errors import LabError
from lab.store import CHUNK_VIDEOS, Store, open_store
from lab.store.folder import Folder


def pack_store(store: Store, target: Path, videos: int, *, force: bool = False) -> Store:
    """The same store at ``target`` with ``videos`` videos a shard (a multiple of 64), other arrays in proportion.

    It loads the same. It is for reading: a pass should go on with the original, since a shard is written as a whole.
    Raises LabError for another number, or where ``target`` is taken.
    """
    if videos < CHUNK_VIDEOS or videos % CHUNK_VIDEOS:
        raise LabError(f"--pack takes a multiple of {CHUNK_VIDEOS} videos (a chunk), got {videos}: try 1024")
    found = contents(store)
    with fresh_store(target, force) as fresh:
        group = zarr.create_group(Folder(fresh), attributes={**store.group.attrs, "packed": videos})
        for name, attributes in found.groups.items():
            group.create_group(name, attributes=attributes)
        for name, array in found.arrays.items():
            rows = array.chunks[0] * min(videos // CHUNK_VIDEOS, max(1, -(-array.shape[0] // array.chunks[0])))
            copy = group.create_array(
                name,
                shape=array.shape,
                dtype=array.dtype,
                chunks=array.chunks,
                shards=(rows, *array.chunks[1:]) if rows > array.chunks[0] else None,
                compressors=None,
                fill_value=array.fill_value,
                attributes=dict(array.attrs),
            )
            for block in blocks(array, rows):
                copy[block] = array[block]
        for name, file in found.files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, fresh / name)
    return open_store(target)
