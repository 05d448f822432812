"""Reading rows of an array straight from its files.

A store's arrays are uncompressed and chunked along rows only, so a chunk on disk is a piece of the array as it lies in
memory, in a file of its own or, in a packed store, somewhere in a shard. Reading it into place takes about what
``numpy.load`` takes; zarr's own reader, which is ready for much more, takes two to three times as long. Whatever does
not look like that is left to zarr.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Reads in flight: more than one hides the kernel's page faults, more than a few gain nothing.
THREADS = min(4, os.cpu_count() or 1)
#: What a shard's index says of a chunk that was never written.
NEVER = np.iinfo(np.uint64).max


def readable(array: Any) -> bool:
    """Whether a zarr array lies on disk as pieces of memory: chunks of whole rows and no codec, in shards or not."""
    if array.compressors or array.filters or not array.shape or not array.dtype.isnative:
        return False
    whole = array.chunks[1:] == array.shape[1:]
    if array.shards is None:
        return bool(whole)
    codec = array.metadata.codecs[0].to_dict()["configuration"]
    names = [inner["name"] for inner in codec["index_codecs"]]
    return bool(whole and codec["index_location"] == "end" and names == ["bytes", "crc32c"])


def file_of(folder: Path, number: int, axes: int) -> Path:
    """The file of an array in ``folder`` that holds the chunk (or the shard) of a number; there may be none."""
    return folder / "c" / "/".join([str(number), *["0"] * (axes - 1)])


def read_rows(array: Any, folder: Path, first: int, end: int) -> NDArray[Any]:
    """Rows first to end−1 of a ``readable`` array in ``folder``; a chunk that was never written gives the fill value.

    Raises ``ValueError`` for a file that is shorter or longer than what it must hold.
    """
    rows, end = array.chunks[0], min(end, array.shape[0])
    out = np.empty((max(0, end - first), *array.shape[1:]), array.dtype)
    row_bytes = out.itemsize * int(np.prod(array.shape[1:]))
    sharded = array.shards is not None
    per_file = array.shards[0] // rows if sharded else 1

    def fetch(file_number: int) -> None:
        file = file_of(folder, file_number, out.ndim)
        inside = range(file_number * per_file, (file_number + 1) * per_file)
        if file.is_fifo():
            raise ValueError(f"{file} is a pipe, which would be waited for")
        try:
            with file.open("rb", buffering=0) as stream:
                for chunk, offset in zip(inside, _offsets(stream, sharded, per_file, rows * row_bytes), strict=True):
                    start, stop = max(first, chunk * rows), min(end, (chunk + 1) * rows)
                    if start >= stop:
                        continue
                    target = out[start - first : stop - first]
                    if offset == NEVER:
                        target[...] = array.fill_value
                        continue
                    stream.seek(int(offset) + (start - chunk * rows) * row_bytes)
                    stream.readinto(target.reshape(-1).view(np.uint8).data)
        except FileNotFoundError:
            out[max(0, inside.start * rows - first) : max(0, inside.stop * rows - first)] = array.fill_value

    span = rows * per_file
    files = range(first // span, -(-end // span)) if len(out) else range(0)
    if out.nbytes < 1 << 20:
        for number in files:
            fetch(number)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(fetch, files))
    return out


def _offsets(stream: Any, sharded: bool, count: int, chunk_bytes: int) -> NDArray[np.uint64]:
    """Where each chunk of a file begins. A shard ends with pairs of offset and length, and a checksum of them."""
    size = os.fstat(stream.fileno()).st_size
    index_bytes = 16 * count + 4
    if not sharded and size == chunk_bytes:
        return np.zeros(1, np.uint64)
    if not sharded or size < index_bytes:
        raise ValueError(f"{stream.name} has {size} bytes, which is no whole chunk")
    stream.seek(size - index_bytes)
    offset, length = np.frombuffer(stream.read(16 * count), "<u8").reshape(-1, 2).T
    written = length != NEVER
    if (length[written] != chunk_bytes).any() or (offset[written] + np.uint64(chunk_bytes) > size - index_bytes).any():
        raise ValueError(f"{stream.name} is damaged: its index does not fit its {size} bytes")
    return offset
