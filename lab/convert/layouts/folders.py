"""A file for each video: MMT's tree of HDF5 files, and the .npz directories of Moment-DETR and its kin."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lab.convert.layouts.features import Choice, Features, as_rows
from lab.convert.layouts.hdf5 import dataset, opened, shown, values
from lab.errors import LabError, first_line


@contextmanager
def mmt(path: Path, choice: Choice) -> Iterator[Features]:
    """``PATH/a/b/c/abcdef.h5`` with a dataset ``features.EXPERT`` (T, D) each; NaN where a video has none."""
    files = _by_stem(path, sorted(path.glob("*/*/*/*.h5")))
    experts: set[str] = set()
    for file in list(files.values())[:20]:  # not every video has every expert
        with opened(file) as content:
            experts |= {name.removeprefix("features.") for name in content if name.startswith("features.")}
    expert = choice.expert or (next(iter(experts)) if len(experts) == 1 else None)
    if files and (expert is None or (experts and expert not in experts)):
        asked = f"'{expert}' is not among the" if expert else "choose one of the"
        raise LabError(f"{path}: {asked} networks {shown(sorted(experts)) or 'none'}: name it with --expert NAME")

    def get(video: str) -> Any:
        with opened(files[video]) as content:
            name = f"features.{expert}"
            return values(dataset(content, name)) if name in content else None

    yield Features("mmt", path, list(files), get, choice.zeros_are_missing)


@contextmanager
def npz(path: Path, choice: Choice) -> Iterator[Features]:
    """``PATH/VIDEO.npz`` with an array under ``features`` (or --array), or ``PATH/VIDEO.npy``."""
    files = _by_stem(path, sorted([*path.glob("*.npz"), *path.glob("*.npy")]))

    def get(video: str) -> Any:
        return load_array(files[video], choice.array or "features")

    yield Features("npz", path, list(files), get, choice.zeros_are_missing)


def load_array(file: Path, key: str) -> Any:
    """An array from .npz (under ``key``) or .npy, never a pickled object. Raises LabError."""
    try:
        if file.is_fifo():
            raise ValueError("a pipe, which would be waited for")
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False)
        with np.load(file, allow_pickle=False) as archive:
            if key not in archive:
                raise LabError(f"{file} has no array '{key}', it has {shown(list(archive))}: name one with --array")
            return archive[key]
    except FileNotFoundError:
        raise LabError(f"{file} does not exist: every id needs its file") from None
    except (ValueError, EOFError, OSError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise LabError(f"{file} cannot be read ({first_line(error)}): get or make it again") from None


def load_query(folder: Path, qid: str) -> tuple[Any, Any] | None:
    """Moment-DETR's text features of a query: its sentence (D,) and its tokens (W, D); None where there is no file."""
    file = folder / f"qid{qid}.npz"
    if file.parent != folder or not file.is_file():
        return None
    sentence = as_rows(load_array(file, "pooler_output"), f"{file}: pooler_output")
    words = as_rows(load_array(file, "last_hidden_state"), f"{file}: last_hidden_state")
    if sentence is None or len(sentence) != 1:
        raise LabError(
            f"{file}: pooler_output must be one vector (D,), got {None if sentence is None else sentence.shape}"
        )
    if words is None or words.shape[1] != sentence.shape[1]:
        raise LabError(f"{file}: last_hidden_state must be (W, D) with the D={sentence.shape[1]} of pooler_output")
    return sentence[0], words


def _by_stem(path: Path, files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise LabError(f"{path}: {found[file.stem].name} and {file.name} have one id: keep one of them")
        found[file.stem] = file
    return found
