"""What every layout comes down to: ids, and for each an array (T, D), checked before it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.errors import LabError

LARGEST = 65504.0  # of float16, in which the store keeps features


@dataclass(frozen=True)
class Choice:
    """What a layout leaves open: which of several networks, which arrays, and whether zeros stand for "missing"."""

    expert: str | None = None
    array: str | None = None
    ids: str | None = None
    zeros_are_missing: bool = False


@dataclass(frozen=True)
class Features:
    """The features of many videos in some layout; ``get`` returns what the file holds under an id."""

    layout: str
    path: Path
    ids: Sequence[str]
    get: Callable[[str], Any]
    zeros_are_missing: bool = False

    def read(self, video: str) -> NDArray[np.floating[Any]] | None:
        """A video's features (T, D), T ≥ 1, finite in float16, in the type of the file; None if marked as missing.

        Rows that are NaN throughout are padding and left out. Raises LabError naming the video for anything else.
        """
        rows = as_rows(self.get(video), f"{self.path}: video '{video}'")
        if rows is None or not self.zeros_are_missing:
            return rows
        kept = rows[rows.any(axis=1)]
        return kept if len(kept) else None

    def sha256(self) -> str:
        """SHA-256 of the file, or over the names and SHA-256s of a directory's files in sorted order."""
        if self.path.is_file():
            return file_sha256(self.path)
        return files_sha256(self.path, "**/*")


def files_sha256(folder: Path, pattern: str) -> str:
    """SHA-256 over the names and SHA-256s of a directory's files, in sorted order."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.glob(pattern) if file.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def as_rows(value: Any, where: str) -> NDArray[np.floating[Any]] | None:
    """``value`` as rows (T, D); None where it is empty or NaN throughout. Raises LabError where it is neither."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise LabError(f"{where}: numbers are needed, got {array.dtype}: name the array that holds features")
    rows: NDArray[np.floating[Any]] = array.astype(np.float32) if array.dtype.kind != "f" else array
    if rows.size == 0 or np.isnan(rows).all():
        return None
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2:
        raise LabError(f"{where}: features must be (T, D) or (D,), got {rows.shape}: reshape them first")
    rows = rows[~np.isnan(rows).all(axis=1)]
    worst = float(np.abs(rows).max())
    if not worst <= LARGEST:  # also false for NaN
        raise LabError(f"{where}: features must be finite in float16 (±{LARGEST:g}), got {worst}: repair or drop them")
    return rows
