"""HDF5: one dataset for each video, or one array for all of them.

A file from a stranger may hold datasets whose bytes lie in another file of this machine (external storage, external
links, virtual datasets); those are refused, soft and external links are not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lab.convert.layouts.features import Choice, Features
from lab.errors import LabError, first_line

#: Where an exported store keeps all that is not frames; no video's name.
RESERVED = "lab"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file for reading. Raises LabError where it is none, or too damaged to open."""
    if not path.is_file():
        raise LabError(f"{path} does not exist: name an HDF5 file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        yield file


def values(found: Any, rows: Any = ()) -> NDArray[Any]:
    """Some rows of a dataset, or all of it. Raises LabError where the file is damaged there."""
    try:
        return np.asarray(found[rows])
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(found.file.filename, error) from None


def texts(found: Any) -> list[str]:
    """A dataset of strings (or of numbers, as text)."""
    raw = values(found).tolist()
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in raw]


def _unreadable(path: Path | str, error: Exception) -> LabError:
    return LabError(f"{path} cannot be read as HDF5 ({first_line(error)}): get or make it again")


def dataset(file: Any, name: str) -> Any:
    """A dataset of ``file`` whose bytes are its own. Raises LabError for one that reaches into another file."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise LabError(f"{file.filename} has no dataset '{name}': it has {shown(list(file))}")
    if found.is_virtual or found.external or found.file.filename != file.filename:  # by links of whatever kind
        raise LabError(
            f"{file.filename}: '{name}' takes its values from another file, which is not followed: copy it in"
        )
    return found


@contextmanager
def per_video(path: Path, choice: Choice) -> Iterator[Features]:
    """``FILE[id]`` is (T, D); ids may hold slashes, which HDF5 turns into groups."""
    with opened(path) as file:
        names = _datasets(file)
        yield Features("per-video", path, names, lambda name: values(dataset(file, name)), choice.zeros_are_missing)


@contextmanager
def contiguous(path: Path, choice: Choice) -> Iterator[Features]:
    """``FILE[array]`` is (V, F, D) or (V, D), ``FILE[ids]`` (V,); ``frame_count`` (V,) cuts padding, if it is there."""
    with opened(path) as file:
        array, names = _pair(file, choice)
        features, ids = dataset(file, array), texts(dataset(file, names))
        if len(set(ids)) != len(ids):
            raise LabError(f"{path}: the ids in '{names}' must differ, {len(ids) - len(set(ids))} are repeated")
        counts = values(dataset(file, "frame_count")) if "frame_count" in file and features.ndim == 3 else None
        rows = {name: row for row, name in enumerate(ids)}

        def get(video: str) -> Any:
            row = rows[video]
            return values(features, row if counts is None else (row, slice(counts[row])))

        yield Features("contiguous", path, ids, get, choice.zeros_are_missing)


def looks_contiguous(path: Path) -> bool:
    """Whether a file has one array of features and ids of the same length."""
    with opened(path) as file:
        try:
            _pair(file, Choice())
        except LabError:
            return False
        return True


def shown(names: list[str]) -> str:
    """Some of many names, for a message."""
    return ", ".join(f"'{name}'" for name in names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


def datasets_below(file: Any, folder: str = "/") -> list[str]:
    """The datasets below a group, by their paths in it."""
    found: list[str] = []
    if folder in file:
        file[folder].visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def _datasets(file: Any) -> list[str]:
    """All of them but for those that an export has besides."""
    return [name for name in datasets_below(file) if name.split("/")[0] != RESERVED]


def _pair(file: Any, choice: Choice) -> tuple[str, str]:
    """Names of the array and of its ids: those chosen, or the only two that fit."""
    found = {name: file[name] for name in _datasets(file)}
    ids = (
        [choice.ids]
        if choice.ids
        else [n for n, d in found.items() if d.ndim == 1 and h5py.check_string_dtype(d.dtype)]
    )
    arrays = (
        [choice.array] if choice.array else [n for n, d in found.items() if d.ndim in (2, 3) and d.dtype.kind == "f"]
    )
    for name in (*ids, *arrays):
        dataset(file, name)
    fitting = [(a, i) for a in arrays for i in ids if len(file[a]) == len(file[i])]
    if len(fitting) == 1:
        return fitting[0]
    need = "one array (V, F, D) and one of ids (V,) are needed"
    raise LabError(
        f"{file.filename}: {need}, arrays that could be: {shown(arrays) or 'none'}; ids: {shown(ids) or 'none'}: "
        "choose with --array NAME --ids NAME"
    )
