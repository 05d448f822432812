"""Rows read straight from the files are what zarr reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from lab.store.chunks import read_rows, readable

ROWS = 103


def made(path: Path, shards: tuple[int, ...] | None, **more: Any) -> Any:
    group = zarr.create_group(path)
    keywords = {"compressors": None, "fill_value": np.nan} | more
    array = group.create_array("x", shape=(ROWS, 3, 5), dtype="f2", chunks=(7, 3, 5), shards=shards, **keywords)
    array[:42] = np.random.default_rng(0).standard_normal((42, 3, 5))  # rows 42 to 90 are never written
    array[91:] = 1.5
    return array


@pytest.mark.parametrize("shards", [None, (7, 3, 5), (35, 3, 5)])
def test_the_same_as_zarr(shards: tuple[int, ...] | None, tmp_path: Path) -> None:
    array = made(tmp_path, shards)
    assert readable(array)
    for first, end in ((0, ROWS), (0, 0), (5, 9), (7, 14), (40, 95), (102, 103), (90, 200), (13, 13)):
        straight = read_rows(array, tmp_path / "x", first, end)
        assert np.array_equal(straight, array[first:end], equal_nan=True), (first, end)


def test_a_million_rows_in_threads(tmp_path: Path) -> None:
    array = zarr.create_group(tmp_path).create_array(
        "x", shape=(1 << 20,), dtype="i4", chunks=(1 << 14,), compressors=None
    )
    array[:] = np.arange(1 << 20)
    assert np.array_equal(read_rows(array, tmp_path / "x", 17, 1 << 20), np.arange(17, 1 << 20))


@pytest.mark.parametrize("shards", [None, (7, 3, 5), (35, 3, 5)])
@pytest.mark.parametrize("change", [-6, 6])
def test_a_file_of_another_length_is_an_error(shards: tuple[int, ...] | None, change: int, tmp_path: Path) -> None:
    array = made(tmp_path, shards)
    file = tmp_path / "x" / "c" / "0" / "0" / "0"
    data = file.read_bytes()
    file.write_bytes(data[:change] if change < 0 else data + b"\xff" * change)
    with pytest.raises(ValueError, match="bytes"):
        read_rows(array, tmp_path / "x", 0, 3)


def test_what_is_not_plain_is_left_to_zarr(tmp_path: Path) -> None:
    assert not readable(made(tmp_path / "a", None, compressors="auto"))
    group = zarr.create_group(tmp_path / "b")
    assert not readable(group.create_array("x", shape=(9, 4), dtype="f2", chunks=(3, 2), compressors=None))
