"""Filling a store unit by unit, every unit committed by its ledger rows.

The order within a unit is: values, then the counts or flags that make them visible, then the ledger. A pass that dies
between any two of these leaves rows that the next pass writes again with the same bytes. A unit's rows never share a
chunk with another shard's, since concurrent writes to one chunk lose data silently (zarr has no locks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from lab.atomic import sync
from lab.errors import LabError
from lab.store import layout, thumbnails
from lab.store.chunks import file_of
from lab.store.create import files_of, write_tables
from lab.store.damage import damaged
from lab.store.folder import Folder
from lab.store.layout import AUDIO, FRAMES, PRESENCE, TABLES, UNIT_CAPTIONS, UNIT_VIDEOS, token_rows
from lab.store.ledger import Entry, Ledger, text_block
from lab.store.reader import Store
from lab.store.room import has_section, make_room

if TYPE_CHECKING:
    from lab.datasets import Collection


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


class StoreWriter:
    """Fills a store. Hold ``lab.store.lock.writing`` around its use. Rows are those of the video and caption tables."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.group = zarr.open_group(Folder(path), mode="r+", use_consolidated=False)
        if "packed" in self.group.attrs:  # a unit is a part of a shard there, and writing it would rewrite the shard
            raise LabError(f"{path} is a packed copy, for reading: go on with the store that it was made from")
        self.ledger = Ledger(path / TABLES / "ledger")
        self._written = set[Path]()  # files since the last unit was recorded
        self._settled = set[Path]()  # directories that are in theirs for good

    def refresh_files(self, collection: Collection) -> None:
        """Notes where the files are now, if some have come or gone since the tables were written."""
        if [video["file"] for video in self.store.videos] != files_of(collection):
            write_tables(self.store.path, collection)

    # -- making room ---------------------------------------------------------------------------------------------

    def require_section(self, modality: str, section: Mapping[str, Any]) -> bool:
        """Whether the store already has the modality. Raises ``LabError`` if it was made under another passport."""
        return has_section(self.store, modality, section)

    def add_frames(self, section: Mapping[str, Any], frames: int, dim: int) -> None:
        """Makes room for F frames of D a video, unless there is some; see ``make_room``."""
        V = len(self.store.videos)
        self.store = make_room(self.store, "frames", section, layout.frame_arrays(V, frames, dim))

    def add_audio(self, section: Mapping[str, Any], segments: int, dim: int) -> None:
        """Makes room for a clip vector and up to S segment vectors of A a video, unless there is some."""
        V = len(self.store.videos)
        self.store = make_room(self.store, "audio", section, layout.audio_arrays(V, segments, dim))

    def add_text(
        self, section: Mapping[str, Any], dim: int, counts: ArrayLike, ids: ArrayLike, word: ArrayLike
    ) -> None:
        """Makes room for the captions, unless there is some: ``counts`` (T,) tokens each, ``ids`` and ``word`` of all.

        Every unit of captions begins at a chunk of its own, as wide as the widest unit, so that units share no file.
        """
        count, ids, word = (np.asarray(values, np.int64) for values in (counts, ids, word))  # an empty list is float
        if len(count) != (T := len(self.store.captions)):
            raise ValueError(f"{len(count)} token counts for {T} captions")
        start, width, N = layout.placed_words(count)
        tokens = {name: np.full(N, -1, np.int32) for name in ("token_ids", "token_word")}
        rows = token_rows(start, count)
        tokens["token_ids"][rows], tokens["token_word"][rows] = ids, word
        arrays, tables = layout.text_arrays(T, N, width, dim), {"word_start": start, "word_count": count}
        self.store = make_room(self.store, "text", section, arrays, **tables, **tokens)

    # -- filling -------------------------------------------------------------------------------------------------

    def write_frames(self, first: int, rows: Sequence[FrameRow | None]) -> None:
        """The videos first, first+1, ... of one unit; a row that is None stays as it is."""
        block = _within_unit(first, len(rows), UNIT_VIDEOS)
        durations, features, times, counts = held = self._held(FRAMES, block)
        for i, row in enumerate(rows):
            if row is None:
                continue
            features[i], times[i] = np.nan, np.nan
            features[i, : len(row.features)] = row.features
            times[i, : len(row.times_s)] = row.times_s
            durations[i], counts[i] = row.duration_s, len(row.features)
        self._hide("frame_count", block, counts)
        self._write_thumbnails(first, rows)
        for name, values in zip(FRAMES, held, strict=True):
            self._put(name, block, values)

    def write_audio(self, first: int, rows: Sequence[AudioRow | None]) -> None:
        """The videos of one unit; a row that is None stays as it is."""
        block = _within_unit(first, len(rows), UNIT_VIDEOS)
        whole, parts, presence, counts = held = self._held(AUDIO, block)
        for i, row in enumerate(rows):
            if row is None:
                continue
            whole[i], parts[i], counts[i], presence[i] = np.nan, np.nan, 0, PRESENCE[row.presence]
            if row.clip is not None and row.segments is not None:
                whole[i], parts[i, : len(row.segments)], counts[i] = row.clip, row.segments, len(row.segments)
        self._hide("audio_segment_count", block, counts)
        for name, values in zip(AUDIO, held, strict=True):
            self._put(name, block, values)

    def write_text(self, rows: NDArray[np.int64], sentences: NDArray[np.float32], words: NDArray[np.float32]) -> None:
        """Captions ``rows`` of one unit: sentences (n, D), and their words in a row (N', D)."""
        number = int(rows[0]) // UNIT_CAPTIONS
        unit = _within_unit(number * UNIT_CAPTIONS, int(rows[-1]) + 1 - number * UNIT_CAPTIONS, UNIT_CAPTIONS)
        width = self._array("words").chunks[0]
        start, count, whole, flags = self._held(("word_start", "word_count", "sentences", "encoded"), unit)
        (tokens,) = self._held(("words",), slice(number * width, (number + 1) * width))
        local = rows - unit.start
        places = token_rows(start[local] - number * width, count[local])
        if len(places) != len(words):
            raise ValueError(f"{len(words)} word vectors for {len(places)} tokens")
        whole[local], tokens[places], flags[local] = sentences, words, 1
        self._put("sentences", unit, whole)
        self._put("words", slice(number * width, (number + 1) * width), tokens)
        self._put("encoded", unit, flags)

    def record(self, block: str, entries: Iterable[Entry]) -> None:
        """Commits a unit: its ledger rows, in the block's file (``videos_block``, ``text_block``).

        Before that its files must be in their directories for good, or a power cut could leave the rows alone.
        """
        above = {folder for file in self._written for folder in file.parents if self.store.path in folder.parents}
        changed = {file.parent for file in self._written} | {folder.parent for folder in above - self._settled}
        sync(sorted(folder for folder in changed if folder.is_dir()))
        self._settled |= above
        self._written.clear()
        self.ledger.update(block, entries)

    def record_text(self, rows: NDArray[np.int64]) -> None:
        """Commits a unit of captions, of which these rows are encoded."""
        told = Counter(self.store.captions[row]["video"] for row in rows.tolist())
        entries = [Entry(self.store.videos[v]["id"], "text", "ok", f"{n} captions") for v, n in told.items()]
        self.record(text_block(int(rows[0]) // UNIT_CAPTIONS), entries)

    def _array(self, name: str) -> Any:
        return self.group[name]

    def _held(self, names: Iterable[str], rows: slice) -> list[NDArray[Any]]:
        """What is there of the rows that are to be changed, as arrays of our own. ``LabError`` for a damaged chunk."""
        held = []
        for name in names:
            try:
                held.append(np.array(self._array(name)[rows]))
            except (ValueError, RuntimeError):
                raise LabError(next(damaged(self.store), f"{self.store.path}: array '{name}' cannot be read")) from None
        return held

    def _hide(self, name: str, block: slice, counts: NDArray[Any]) -> None:
        """Before a row gets shorter (its file is broken now): what will be no more must not be seen half-gone."""
        (shown,) = self._held((name,), block)
        if (counts < shown).any():
            self._put(name, block, np.minimum(shown, counts))

    def _put(self, name: str, rows: slice, values: NDArray[Any]) -> None:
        """Rows of one chunk."""
        array = self._array(name)
        array[rows] = values
        self._written.add(file_of(self.store.path / name, rows.start // array.chunks[0], array.ndim))

    def _write_thumbnails(self, first: int, rows: Sequence[FrameRow | None]) -> None:
        """The pictures of these rows, beside those of the unit's other rows: their files may have gone."""
        file = self.store.thumbnail_file(first)
        held = thumbnails.read(file)
        fresh = held | {first + i: list(row.thumbnails) for i, row in enumerate(rows) if row is not None}
        if fresh != held and any(fresh.values()):
            thumbnails.replace(file, fresh)
            self._written.add(file)


def _within_unit(first: int, length: int, size: int) -> slice:
    if length < 1 or first // size != (first + length - 1) // size:
        raise ValueError(f"rows must lie within one unit of {size}, got {first}..{first + length - 1}")
    return slice(first, first + length)


def require_finite(values: NDArray[np.float32], what: str) -> None:
    """Raises ``LabError`` if a feature would not survive float16: a NaN, or a magnitude above 65,504."""
    worst = float(np.abs(values).max(initial=0.0))
    if not worst <= 65504.0:  # also false for NaN
        raise LabError(
            f"{what}: features must be finite in float16, got {worst}; the weights or the precision are broken"
        )
