"""Filling a store: room for a modality, then unit by unit, every unit committed by its ledger rows.

The order within a unit is: values, then the counts or flags that make them visible, then the ledger. A pass that dies
between any two of these leaves rows that the next pass writes again with the same bytes. A unit's rows never share a
chunk with another shard's, since concurrent writes to one chunk lose data silently (zarr has no locks).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from lab.errors import LabError
from lab.store import passport as passports
from lab.store import thumbnails
from lab.store.create import make_arrays, write_tables
from lab.store.layout import (
    PRESENCE,
    TABLES,
    UNIT_CAPTIONS,
    UNIT_VIDEOS,
    audio_arrays,
    frame_arrays,
    placed_words,
    text_arrays,
    token_rows,
)
from lab.store.ledger import Entry, Ledger
from lab.store.lock import alone
from lab.store.reader import Store

if TYPE_CHECKING:
    from lab.datasets import Collection

log = logging.getLogger(__name__)


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
        self.group = zarr.open_group(path, mode="r+", use_consolidated=False)
        if "packed" in self.group.attrs:  # a unit is a part of a shard there, and writing it would rewrite the shard
            raise LabError(f"{path} is a packed copy, for reading: go on with the store that it was made from")
        self.ledger = Ledger(path / TABLES / "ledger")

    def refresh_files(self, collection: Collection) -> None:
        """Notes where the files are now: some may have come since the store was made."""
        write_tables(self.store.path, collection)

    # -- making room ---------------------------------------------------------------------------------------------

    def add_frames(self, section: Mapping[str, Any], frames: int, dim: int) -> None:
        """Makes room for F frames of D a video, unless there is some.

        Raises ``LabError`` on another passport, and where texts of another width are there.
        """
        with self._room("frames", section) as missing:
            if missing:
                self._require_one_space("frames", section, dim)
                make_arrays(self.group, frame_arrays(len(self.store.videos), frames, dim))
                self.group.require_group("thumbnails")

    def add_text(
        self, section: Mapping[str, Any], dim: int, counts: ArrayLike, ids: ArrayLike, word: ArrayLike
    ) -> None:
        """Makes room for the captions: ``counts`` (T,) word tokens each, ``ids`` and ``word`` of all tokens in a row.

        Every unit of captions begins at a chunk of its own, as wide as the widest unit, so that units share no file.
        Raises ``LabError`` on another passport, and where frames of another width are there.
        """
        count, ids, word = (np.asarray(values, np.int64) for values in (counts, ids, word))  # an empty list is float
        if len(self.store.captions) != len(count):
            raise ValueError(f"{len(count)} token counts for {len(self.store.captions)} captions")
        start, width, N = placed_words(count)
        rows = token_rows(start, count)
        with self._room("text", section) as missing:
            if missing:
                self._require_one_space("text", section, dim)
                made = make_arrays(self.group, text_arrays(len(count), N, width, dim))
                made["word_start"][:], made["word_count"][:] = start, count
                for name, values in (("token_ids", ids), ("token_word", word)):
                    placed = np.full(N, -1, np.int32)
                    placed[rows] = values
                    made[name][:] = placed

    def add_audio(self, section: Mapping[str, Any], segments: int, dim: int) -> None:
        """Makes room for a clip vector and up to S segment vectors of A a video, unless there is some."""
        with self._room("audio", section) as missing:
            if missing:
                make_arrays(self.group, audio_arrays(len(self.store.videos), segments, dim))

    @contextmanager
    def _room(self, modality: str, section: Mapping[str, Any]) -> Iterator[bool]:
        """Whether the body has to make the arrays; afterwards their section in the passport says that they are there.

        Shards that start together all find a modality missing. The first makes room; had the others no second look,
        they would make it anew over what the first has written by then.
        """
        with alone(self.store.path):
            self.store = Store(self.store.path)
            missing = not self.require_section(modality, section)
            yield missing
            if missing:
                self.group.attrs.update({"passport": self.store.passport | {modality: dict(section)}})
                self.store = Store(self.store.path)

    def _require_one_space(self, modality: str, section: Mapping[str, Any], dim: int) -> None:
        """Frames and texts are compared, so they must be of two towers of one network, as far as can be told."""
        other = "text" if modality == "frames" else "frames"
        if other not in self.store.passport:
            return
        theirs, ours = (about.get("name", "unknown") for about in (self.store.passport[other], section))
        held = self.store.array("sentences" if other == "text" else "frames").shape[-1]
        if held != dim:
            raise LabError(
                f"frames and text must be as wide as each other: {self.store.path} has {other} by '{theirs}' with "
                f"{held} dims, {modality} by '{ours}' would have {dim}: name the CLIP of the {other} with --clip, or "
                "make another store with --name"
            )
        if theirs != ours:
            log.warning("%s: its %s is by '%s', the %s by '%s': nothing tells whether they belong together",
                        self.store.path, other, theirs, modality, ours)  # fmt: skip

    def require_section(self, modality: str, section: Mapping[str, Any]) -> bool:
        """Whether the store already has the modality. Raises ``LabError`` if it was made under another passport."""
        remedy = "Use the settings and package versions that made it, or give the new features another --name"
        passports.require_same(self.store.passport, {modality: dict(section)}, str(self.store.path), remedy)
        return modality in self.store.passport

    # -- filling -------------------------------------------------------------------------------------------------

    def write_frames(self, first: int, rows: Sequence[FrameRow | None]) -> None:
        """The videos first, first+1, ... of one unit; a row that is None stays as it is."""
        block = _within_unit(first, len(rows), UNIT_VIDEOS)
        features, times = self._array("frames")[block], self._array("frame_times_s")[block]
        durations, counts = self._array("duration_s")[block], self._array("frame_count")[block]
        shown = counts.copy()
        for i, row in enumerate(rows):
            if row is None:
                continue
            features[i], times[i] = np.nan, np.nan
            features[i, : len(row.features)] = row.features
            times[i, : len(row.times_s)] = row.times_s
            durations[i], counts[i] = row.duration_s, len(row.features)
        self._hide("frame_count", block, shown, counts)
        self._array("frames")[block] = features
        self._array("frame_times_s")[block] = times
        self._array("duration_s")[block] = durations
        self._write_thumbnails(first, rows)
        self._array("frame_count")[block] = counts

    def _array(self, name: str) -> Any:
        return self.group[name]

    def _write_thumbnails(self, first: int, rows: Sequence[FrameRow | None]) -> None:
        """The pictures of these rows, beside those of the unit's other rows: their files may have gone."""
        file = self.store.thumbnail_file(first)
        held = thumbnails.read(file)
        fresh = held | {first + i: list(row.thumbnails) for i, row in enumerate(rows) if row is not None}
        if fresh != held and any(fresh.values()):
            thumbnails.replace(file, fresh)

    def _hide(self, name: str, block: slice, shown: NDArray[Any], counts: NDArray[Any]) -> None:
        """Before a row gets shorter (its file is broken now): what will be no more must not be seen half-gone."""
        if (counts < shown).any():
            self._array(name)[block] = np.minimum(shown, counts)

    def write_audio(self, first: int, rows: Sequence[AudioRow | None]) -> None:
        """The videos of one unit; a row that is None stays as it is."""
        block = _within_unit(first, len(rows), UNIT_VIDEOS)
        names = ("audio", "audio_segments", "audio_segment_count", "audio_presence")
        whole, parts, counts, presence = (self._array(name)[block] for name in names)
        shown = counts.copy()
        for i, row in enumerate(rows):
            if row is None:
                continue
            whole[i], parts[i], counts[i], presence[i] = np.nan, np.nan, 0, PRESENCE[row.presence]
            if row.clip is not None and row.segments is not None:
                whole[i], parts[i, : len(row.segments)], counts[i] = row.clip, row.segments, len(row.segments)
        self._hide("audio_segment_count", block, shown, counts)
        for name, values in zip(names, (whole, parts, counts, presence), strict=True):
            self._array(name)[block] = values

    def write_text(self, rows: NDArray[np.int64], sentences: NDArray[np.float32], words: NDArray[np.float32]) -> None:
        """Captions ``rows`` of one unit: sentences (n, D), and their words in a row (N', D)."""
        first = int(rows[0]) // UNIT_CAPTIONS * UNIT_CAPTIONS
        unit = _within_unit(first, int(rows[-1]) + 1 - first, UNIT_CAPTIONS)
        start, count = self._array("word_start")[unit], self._array("word_count")[unit]
        local = rows - unit.start
        held = self._array("sentences")[unit]
        held[local] = sentences
        width = self._array("words").chunks[0]
        base = int(rows[0]) // UNIT_CAPTIONS * width
        tokens = self._array("words")[base : base + width]
        places = token_rows(start[local] - base, count[local])
        if len(places) != len(words):
            raise ValueError(f"{len(words)} word vectors for {len(places)} tokens")
        tokens[places] = words
        flags = self._array("encoded")[unit]
        flags[local] = 1
        self._array("sentences")[unit] = held
        self._array("words")[base : base + width] = tokens
        self._array("encoded")[unit] = flags

    def record(self, block: str, entries: Iterable[Entry]) -> None:
        """Commits a unit: its ledger rows, in the block's file (``videos_block``, ``text_block``)."""
        self.ledger.update(block, entries)


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
