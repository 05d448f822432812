"""A synthetic store whose every axis has a prime of its own, so that no mixed-up axis fits by accident.

37 videos (units of 16, 16 and 5) of at most 5 frames, 7 dimensions, 3 segments of 11; 1,031 captions (units of 512, 512
and 7) of 0 to 6 words. All values are exact in float16, so that what comes back can be compared with ``==``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.datasets import Caption, Collection, Video
from lab.store import UNIT_CAPTIONS, UNIT_VIDEOS
from lab.store.create import create_store
from lab.store.ledger import Entry
from lab.store.writer import AudioRow, FrameRow, StoreWriter

V, F, D, S, A, T = 37, 5, 7, 3, 11, 1031
#: Videos without frames: one in the middle of a unit, one at the end of a split.
BROKEN = (5, 22)
SECTIONS = {
    "frames": {"model": "toy", "random": True, "sampling": "midpoints-5"},
    "text": {"model": "toy", "random": True, "logit_scale": 20.0},
    "audio": {"model": "cnn0", "random": False},
}


def exact(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Multiples of 1/8 up to 16: what float16 holds to the bit."""
    return (rng.integers(-128, 128, shape) / 8).astype(np.float32)


def split_of(video: int) -> str:
    return "train" if video < 23 else "val" if video < 29 else "test"


@dataclass(frozen=True)
class World:
    """All that goes into a store, kept as plain lists beside it."""

    collection: Collection
    frames: list[FrameRow]
    audio: list[AudioRow]
    sentences: NDArray[np.float32]
    words: list[NDArray[np.float32]]

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.array([len(words) for words in self.words])

    def units(self) -> Iterator[tuple[int, range]]:
        for first in range(0, V, UNIT_VIDEOS):
            yield first, range(first, min(first + UNIT_VIDEOS, V))

    def create(self, path: Path) -> StoreWriter:
        create_store(path, self.collection, {"name": "toy", "version": "1"})
        return StoreWriter(path)

    def add_text(self, writer: StoreWriter) -> None:
        counts = self.counts
        writer.add_text(SECTIONS["text"], D, counts, np.arange(counts.sum()), np.concatenate([np.arange(0)] + [
            np.arange(count) for count in counts]))  # fmt: skip

    def make_room(self, writer: StoreWriter) -> None:
        writer.add_frames(SECTIONS["frames"], F, D)
        self.add_text(writer)
        writer.add_audio(SECTIONS["audio"], S, A)

    def write_videos(self, writer: StoreWriter, first: int, rows: range) -> None:
        writer.write_frames(first, [self.frames[row] for row in rows])
        writer.write_audio(first, [self.audio[row] for row in rows])
        ids = [self.collection.videos[row].id for row in rows]
        status = ["undecodable" if row in BROKEN else "ok" for row in rows]
        writer.record(
            f"videos-{first // 64:06d}", [Entry(name, "frames", s) for name, s in zip(ids, status, strict=True)]
        )

    def write_text(self, writer: StoreWriter, rows: NDArray[np.int64]) -> None:
        words = [self.words[row] for row in rows]
        writer.write_text(rows, self.sentences[rows], np.concatenate(words))

    def fill(self, writer: StoreWriter) -> None:
        self.make_room(writer)
        for first, rows in self.units():
            self.write_videos(writer, first, rows)
        for start in range(0, T, UNIT_CAPTIONS):
            self.write_text(writer, np.arange(start, min(start + UNIT_CAPTIONS, T)))


def frame_row(rng: np.random.Generator, row: int) -> FrameRow:
    count = 0 if row in BROKEN else 1 + row % F
    pictures = tuple(rng.bytes(1 + int(rng.integers(1, 29))) for _ in range(count))
    duration = float("nan") if not count else row + 0.5
    return FrameRow(exact(rng, count, D), np.arange(count) / 4, pictures, duration)


def audio_row(rng: np.random.Generator, row: int) -> AudioRow:
    if row % 4 == 0:
        return AudioRow(None, None, ("absent", "unknown")[row in BROKEN])
    return AudioRow(exact(rng, A), exact(rng, 1 + row % S, A), "silent" if row % 4 == 1 else "present")


def make_world(root: Path) -> World:
    rng = np.random.default_rng(0)
    owners = np.sort(rng.integers(0, V, T))
    splits = [{"whole": split_of(v)} | ({"few": "test"} if v >= 13 else {}) for v in range(V)]
    videos = tuple(Video(f"v{v:02d}", None if v in BROKEN else root / f"v{v:02d}.mp4", splits[v]) for v in range(V))
    firsts = {int(owner): row for row, owner in reversed(list(enumerate(owners)))}
    captions = tuple(
        Caption(
            int(o), f"caption {t}", {"whole": split_of(o)} | ({"few": "test"} if o >= 13 and firsts[o] == t else {})
        )
        for t, o in enumerate(owners.tolist())
    )
    counts = rng.integers(0, 7, T)
    counts[[0, 511, 512, 1030]] = 0  # nothing to say at every edge of a unit
    return World(
        Collection("toy", root, videos, captions, ("whole", "few"), ()),
        [frame_row(rng, row) for row in range(V)],
        [audio_row(rng, row) for row in range(V)],
        exact(rng, T, D),
        [exact(rng, int(count), D) for count in counts],
    )
