"""Features held against a table of videos, and looked at as a whole before any of them is believed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.cli import bar
from lab.convert.layouts.features import Features
from lab.datasets import Collection
from lab.datasets.tree import VIDEO_SUFFIXES, stem, suffix
from lab.errors import LabError
from lab.sampling import MAX_FRAMES, Sampling

log = logging.getLogger(__name__)

Rows = NDArray[np.floating[Any]]


def match(collection: Collection, features: Features) -> dict[int, str]:
    """Row of the video table → the id under which its features are; by id, else by id less a file's suffix.

    Raises LabError where no id fits; ids that fit no video are counted in a warning.
    """
    rows = {video.id: row for row, video in enumerate(collection.videos)}
    bare: dict[str, list[int]] = {}
    for video, place in rows.items():
        bare.setdefault(less_suffix(video), []).append(place)
    found: dict[int, str] = {}
    strays: list[str] = []
    for name in features.ids:
        near = bare.get(less_suffix(name), [])
        row = rows[name] if name in rows else near[0] if len(near) == 1 else None
        if row is None:
            strays.append(name)
        elif row in found:
            raise LabError(f"{features.path}: '{found[row]}' and '{name}' are both video '{collection.videos[row].id}'")
        else:
            found[row] = name
    if not found:
        ours, theirs = collection.videos[0].id if collection.videos else "none", features.ids[0]
        raise LabError(
            f"{features.path}: no id is one of {collection.name}: its are like '{ours}', here like '{theirs}'"
        )
    if strays:
        log.warning("%s: %d ids are no video of %s and are left out (%s, ...)",
                    features.path, len(strays), collection.name, ", ".join(strays[:3]))  # fmt: skip
    return found


def less_suffix(name: str) -> str:
    """A video's id less the suffix of a video file, if it has one: lists are written with it and without."""
    return stem(name) if suffix(name) in VIDEO_SUFFIXES else name


class Survey:
    """Features of one kind, surveyed: how long the longest is, how wide they are, which are marked as missing."""

    def __init__(self, features: Features, names: Mapping[int, str], limit: int | None) -> None:
        self.features, self.names = features, names
        self.sampling = Sampling("midpoints", limit) if limit else None
        self.length = self.dim = 0
        self.zero = 0
        with bar(len(names), f"looking at {features.path.name}", "video") as shown:
            for row in sorted(names):
                self._look(names[row])
                shown.update()
        if not self.length:
            raise LabError(f"{features.path}: every video is marked as missing")
        if self.zero:
            log.warning("%s: %d vectors are zero throughout; if they stand for missing ones, say --zeros-are-missing",
                        features.path, self.zero)  # fmt: skip

    def _look(self, name: str) -> None:
        rows = self.features.read(name)
        if rows is None:
            return
        where = f"{self.features.path}: video '{name}'"
        if self.dim not in (0, rows.shape[1]):
            raise LabError(f"{where} has {rows.shape[1]} dims, others have {self.dim}: all must agree")
        if self.sampling is None and len(rows) > MAX_FRAMES:
            raise LabError(f"{where} has {len(rows)} vectors, a store takes {MAX_FRAMES}: thin them with --frames 12")
        self.dim = rows.shape[1]
        self.length = max(self.length, len(self.thin(rows)))
        self.zero += int((~rows.any(axis=1)).sum())

    def thin(self, rows: Rows) -> Rows:
        """At most as many rows as asked for, the midpoints of equal stretches."""
        return rows if self.sampling is None else rows[self.sampling.indices(len(rows))]

    def row(self, row: int) -> Rows | None:
        """The features of a row of the video table; None if it has none."""
        rows = self.features.read(self.names[row]) if row in self.names else None
        return None if rows is None else self.thin(rows)

    def section(self) -> dict[str, Any]:
        """What the passport says of features that this lab did not make."""
        rule = f"{self.sampling.name} of the imported" if self.sampling else "all of the imported"
        imported = {"layout": self.features.layout, "sha256": self.features.sha256()}
        return {"imported": imported, "sampling": rule, "dim": self.dim, "dtype": "float16"}
