"""Writing a store: created whole by one rename, filled unit by unit, every unit committed by its ledger rows.

The order within a unit is: values, then the counts or flags that make them visible, then the ledger. A pass that dies
between any two of these leaves rows that the next pass writes again with the same bytes. A unit's rows never share a
chunk with another shard's, since concurrent writes to one chunk lose data silently (zarr has no locks).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from lab import passport as passports
from lab.errors import LabError
from lab.ledger import Entry, Ledger, replace_text
from lab.store import CHUNK_VIDEOS, PRESENCE, SCHEMA, UNIT_CAPTIONS, UNIT_VIDEOS, Store

if TYPE_CHECKING:
    from lab.datasets import Collection

NAN = float("nan")


@dataclass(frozen=True)
class FrameRow:
    """A video's frames: features (f, D) with f ≤ F, none if it failed; when each is shown; a JPEG of each."""

    features: NDArray[np.float32]
    times_s: NDArray[np.float64]
    thumbnails: Sequence[bytes]
    duration_s: float


@dataclass(frozen=True)
class AudioRow:
    """A video's sound: a clip vector (A,) and segments (s, A), or None; ``presence`` is a key of ``PRESENCE``."""

    clip: NDArray[np.float32] | None
    segments: NDArray[np.float32] | None
    presence: str


def create_store(path: Path, collection: Collection, dataset: Mapping[str, Any]) -> Store:
    """A store with the tables of a collection and no features yet; ``dataset`` is that section of its passport.

    It appears at ``path`` by a rename, so a process that dies on the way leaves no half-made store. If another process
    was faster, its store is returned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        attributes = {"schema": SCHEMA, "name": collection.name, "protocols": list(collection.protocols)}
        group = zarr.create_group(fresh, attributes=attributes | {"passport": {"dataset": dict(dataset)}})
        _write_tables(fresh, collection)
        shape = (len(collection.videos),)
        group.create_array(
            "duration_s", shape=shape, dtype="f4", chunks=(CHUNK_VIDEOS,), fill_value=NAN, compressors=None
        )
        try:
            fresh.rename(path)
        except OSError:
            if not (path / "zarr.json").exists():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Store(path)


def _write_tables(store: Path, collection: Collection) -> None:
    def file(video: Any) -> str:
        return os.path.relpath(video.file, collection.root) if video.file else ""

    videos = [{"id": v.id, "file": file(v), "splits": dict(v.splits)} for v in collection.videos]
    captions = [{"video": c.video, "text": c.text, "splits": dict(c.splits)} for c in collection.captions]
    replace_text(store / "videos.ndjson", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in videos))
    replace_text(store / "captions.ndjson", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in captions))
    replace_text(store / "root.txt", f"{collection.root}\n")


class StoreWriter:
    """Fills a store. Hold ``lab.lock.writing`` around its use. Rows are those of the video and caption tables."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.group = zarr.open_group(path, mode="r+", use_consolidated=False)
        self.ledger = Ledger(path / "ledger")

    def refresh_files(self, collection: Collection) -> None:
        """Notes where the files are now: some may have come since the store was made."""
        _write_tables(self.store.path, collection)

    # -- making room ---------------------------------------------------------------------------------------------

    def add_frames(self, section: Mapping[str, Any], frames: int, dim: int) -> None:
        """Makes room for F frames of D a video."""
        V = len(self.store.videos)
        self._array("frames", (V, frames, dim), "f2", (CHUNK_VIDEOS, frames, dim), NAN)
        self._array("frame_times_s", (V, frames), "f4", (CHUNK_VIDEOS, frames), NAN)
        self._array("frame_count", (V,), "i2", (CHUNK_VIDEOS,), 0)
        self._array("thumbnail_bytes", (V, frames), "i4", (CHUNK_VIDEOS, frames), 0)
        self.group.require_group("thumbnails")
        self._commit_section("frames", section)

    def add_text(
        self, section: Mapping[str, Any], dim: int, counts: ArrayLike, ids: ArrayLike, word: ArrayLike
    ) -> None:
        """Makes room for the captions: ``counts`` (T,) word tokens each, ``ids`` and ``word`` of all tokens in a row.

        Every unit of captions begins at a chunk of its own, as wide as the widest unit, so that units share no file.
        """
        count, ids, word = (np.asarray(values) for values in (counts, ids, word))
        T = len(count)
        if len(self.store.captions) != T:
            raise ValueError(f"{T} token counts for {len(self.store.captions)} captions")
        inside = np.arange(T) // UNIT_CAPTIONS
        ends = np.cumsum(count, dtype=np.int64)
        unit_first = np.concatenate([[0], ends])[np.arange(0, T, UNIT_CAPTIONS)] if T else np.zeros(0, np.int64)
        width = max(1, int(np.bincount(inside, weights=count).max())) if T else 1
        start = inside * width + (ends - count) - unit_first[inside] if T else np.zeros(0, np.int64)
        N = max(1, -(-T // UNIT_CAPTIONS)) * width
        self._array("sentences", (T, dim), "f2", (UNIT_CAPTIONS, dim), NAN)
        self._array("words", (N, dim), "f2", (width, dim), NAN)
        self._array("encoded", (T,), "i1", (UNIT_CAPTIONS,), 0)
        self._array("word_start", (T,), "i8", (UNIT_CAPTIONS,), 0)[:] = start
        self._array("word_count", (T,), "i4", (UNIT_CAPTIONS,), 0)[:] = count
        rows = np.repeat(start - (ends - count), count) + np.arange(int(count.sum()))
        for name, values in (("token_ids", ids), ("token_word", word)):
            placed = np.full(N, -1, np.int32)
            placed[rows] = values
            self._array(name, (N,), "i4", (width,), -1)[:] = placed
        self._commit_section("text", section)

    def add_audio(self, section: Mapping[str, Any], segments: int, dim: int) -> None:
        """Makes room for a clip vector and up to S segment vectors of A a video."""
        V = len(self.store.videos)
        self._array("audio", (V, dim), "f2", (CHUNK_VIDEOS, dim), NAN)
        self._array("audio_segments", (V, segments, dim), "f2", (CHUNK_VIDEOS, segments, dim), NAN)
        self._array("audio_segment_count", (V,), "i2", (CHUNK_VIDEOS,), 0)
        self._array("audio_presence", (V,), "i1", (CHUNK_VIDEOS,), PRESENCE["unknown"])
        self._commit_section("audio", section)

    def _held(self, name: str) -> Any:
        return self.group[name]

    def _array(self, name: str, shape: Sequence[int], dtype: str, chunks: Sequence[int], fill: float) -> Any:
        # Float16 features do not compress (7 %), a codec would cost more than it saves. The fill of a feature is NaN,
        # never 0: a row that was not written must not look like one.
        return self.group.create_array(
            name,
            shape=tuple(shape),
            dtype=dtype,
            chunks=tuple(chunks),
            compressors=None,
            fill_value=fill,
            overwrite=True,
        )

    def _commit_section(self, modality: str, section: Mapping[str, Any]) -> None:
        """The section in the passport says that the arrays are there; it is written last."""
        held = dict(self.store.passport) | {modality: dict(section)}
        self.group.attrs.update({"passport": held})
        self.store = Store(self.store.path)

    def require_section(self, modality: str, section: Mapping[str, Any]) -> bool:
        """Whether the store already has the modality. Raises ``LabError`` if it was made under another passport."""
        remedy = "Use the settings and package versions that made it, or give the new features another --name"
        passports.require_same(self.store.passport, {modality: dict(section)}, str(self.store.path), remedy)
        return modality in self.store.passport

    # -- filling -------------------------------------------------------------------------------------------------

    def write_frames(self, first: int, rows: Sequence[FrameRow | None]) -> None:
        """The videos first, first+1, ... of one unit; a row that is None stays as it is."""
        block = slice(first, first + len(rows))
        features, times = self._held("frames")[block], self._held("frame_times_s")[block]
        durations, sizes = self._held("duration_s")[block], self._held("thumbnail_bytes")[block]
        counts = self._held("frame_count")[block]
        pictures = [self.store.thumbnails(first + i) if row is None else row.thumbnails for i, row in enumerate(rows)]
        for i, row in enumerate(rows):
            if row is None:
                continue
            features[i], times[i], sizes[i] = np.nan, np.nan, 0
            features[i, : len(row.features)] = row.features
            times[i, : len(row.times_s)] = row.times_s
            sizes[i, : len(row.thumbnails)] = [len(picture) for picture in row.thumbnails]
            durations[i], counts[i] = row.duration_s, len(row.features)
        blob = np.frombuffer(b"".join(picture for row in pictures for picture in row), np.uint8)
        self._held("frames")[block] = features
        self._held("frame_times_s")[block] = times
        self._held("duration_s")[block] = durations
        if len(blob):
            self._array(f"thumbnails/{first // UNIT_VIDEOS:06d}", blob.shape, "u1", blob.shape, 0)[:] = blob
        self._held("thumbnail_bytes")[block] = sizes
        self._held("frame_count")[block] = counts

    def write_audio(self, first: int, rows: Sequence[AudioRow | None]) -> None:
        """The videos of one unit; a row that is None stays as it is."""
        block = slice(first, first + len(rows))
        names = ("audio", "audio_segments", "audio_segment_count", "audio_presence")
        whole, parts, counts, presence = (self._held(name)[block] for name in names)
        for i, row in enumerate(rows):
            if row is None:
                continue
            whole[i], parts[i], counts[i], presence[i] = np.nan, np.nan, 0, PRESENCE[row.presence]
            if row.clip is not None and row.segments is not None:
                whole[i], parts[i, : len(row.segments)], counts[i] = row.clip, row.segments, len(row.segments)
        for name, values in zip(names, (whole, parts, counts, presence), strict=True):
            self._held(name)[block] = values

    def write_text(self, rows: NDArray[np.int64], sentences: NDArray[np.float32], words: NDArray[np.float32]) -> None:
        """Captions ``rows`` of one unit: sentences (n, D), and their words in a row (N', D)."""
        unit = slice(int(rows[0]) // UNIT_CAPTIONS * UNIT_CAPTIONS, int(rows[-1]) + 1)
        start, count = self._held("word_start")[unit], self._held("word_count")[unit]
        local = rows - unit.start
        held = self._held("sentences")[unit]
        held[local] = sentences
        width = self._held("words").chunks[0]
        base = int(rows[0]) // UNIT_CAPTIONS * width
        tokens = self._held("words")[base : base + width]
        own = count[local]
        ends = np.cumsum(own)
        if ends[-1] != len(words):
            raise ValueError(f"{len(words)} word vectors for {ends[-1]} tokens")
        tokens[np.repeat(start[local] - base - (ends - own), own) + np.arange(len(words))] = words
        flags = self._held("encoded")[unit]
        flags[local] = 1
        self._held("sentences")[unit] = held
        self._held("words")[base : base + width] = tokens
        self._held("encoded")[unit] = flags

    def record(self, block: str, entries: Iterable[Entry]) -> None:
        """Commits a unit: its ledger rows, in the block's file (``videos-00012`` or ``text-00012``)."""
        self.ledger.update(block, entries)


def require_finite(values: NDArray[np.float32], what: str) -> None:
    """Raises ``LabError`` if a feature would not survive float16: a NaN, or a magnitude above 65,504."""
    worst = float(np.abs(values).max(initial=0.0))
    if not worst <= 65504.0:  # also false for NaN
        raise LabError(
            f"{what}: features must be finite in float16, got {worst}; the weights or the precision are broken"
        )
