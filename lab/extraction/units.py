"""What a pass has to do: the units of videos and of captions of which something is not stored.

By the ledger, and for videos by their files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.extraction.files import Present, look
from lab.store import CHUNK_VIDEOS, UNIT_CAPTIONS, UNIT_VIDEOS
from lab.store.ledger import Entry, Ledger, text_block, videos_block

if TYPE_CHECKING:
    from lab.datasets import Collection


@dataclass(frozen=True)
class Share:
    """Which part of the work is ours: shard I of N (from 1), at most ``limit`` videos, failures again or not."""

    index: int = 1
    count: int = 1
    limit: int | None = None
    retry: bool = False

    def has(self, block: int) -> bool:
        """Whether a block (a chunk of videos or of captions) is in this shard."""
        return block % self.count == self.index - 1

    def blocks(self, collection: Collection) -> Iterator[int]:
        """The blocks of videos in this shard."""
        return (b for b in range(-(-len(collection.videos) // CHUNK_VIDEOS)) if self.has(b))


@dataclass(frozen=True)
class Unit:
    """Consecutive videos that are decoded, encoded and committed together."""

    first: int
    files: tuple[Path | None, ...]
    modalities: frozenset[str]
    found: tuple[Present | None, ...]  # each file before it is read: one that grows meanwhile is read again next time
    kept: tuple[frozenset[str], ...]  # of each video what stays stored if its file cannot be read this time
    replaced: int = 0  # how many have features of another file than theirs is now


def units(collection: Collection, ledger: Ledger, share: Share, wanted: Sequence[str]) -> Iterator[Unit]:
    """The units with something to do in the ``wanted`` modalities, up to the limit of a share.

    What is known without reading a video is put into the ledger: which have no file, and when copies were made.
    """
    left = share.limit if share.limit is not None else len(collection.videos)
    for block in share.blocks(collection):
        known = {(e.video, e.modality): e for e in ledger.read(videos_block(block))}
        noted: list[Entry] = []
        todo: list[Unit] = []
        for first in range(block * CHUNK_VIDEOS, (block + 1) * CHUNK_VIDEOS, UNIT_VIDEOS):
            files: list[Path | None] = []
            found: list[Present | None] = []
            kept: list[frozenset[str]] = []
            undone: set[str] = set()
            replaced = 0
            for video in collection.videos[first : first + UNIT_VIDEOS]:
                file = None if video.file is None else look(video.file)
                entries = {m: known.get((video.id, m)) for m in wanted}
                noted += _noted(video.id, file, entries)
                stands = {m: file is not None and file.settled(entries[m], share.retry) for m in entries}
                within = file is not None and left > 0
                left -= within
                # What is done already comes along when its unit is done again, limit or not.
                files.append(video.file if within or all(stands.values()) else None)
                found.append(file)
                stored = {m: e for m, e in entries.items() if e and not e.failed}
                kept.append(frozenset(m for m, e in stored.items() if file is None or file.is_of(e)))
                replaced += within and len(kept[-1]) < len(stored)
                undone |= {m for m, stand in stands.items() if within and not stand}
            if undone:
                todo.append(Unit(first, tuple(files), frozenset(undone), tuple(found), tuple(kept), replaced))
        if noted:
            ledger.update(videos_block(block), noted)
        yield from todo


def _noted(video: str, file: Present | None, entries: Mapping[str, Entry | None]) -> Iterator[Entry]:
    """The rows of a video that are to be changed, or are not there yet."""
    for modality, entry in entries.items():
        if entry is None and file is None:
            yield Entry(video, modality, "missing", "no file of this name below the root")
        elif entry is not None and file is not None and (dated := file.dated(entry)) != entry:
            yield dated


def caption_units(
    collection: Collection, ledger: Ledger, share: Share, present: NDArray[np.bool_]
) -> Iterator[NDArray[np.int64]]:
    """The caption rows of each unit that has some to encode, up to the limit of a share; a unit is encoded whole.

    ``present`` (V,): the videos that can be a query's answer.
    """
    captions, videos = collection.captions, collection.videos
    left = share.limit if share.limit is not None else len(videos)
    wanted = present & (np.cumsum(present) <= left)
    for first in range(0, len(captions), UNIT_CAPTIONS):
        if not share.has(first // UNIT_CAPTIONS):
            continue
        done = {e.video for e in ledger.read(text_block(first // UNIT_CAPTIONS)) if not e.failed}
        owners = [caption.video for caption in captions[first : first + UNIT_CAPTIONS]]
        if any(wanted[owner] and videos[owner].id not in done for owner in owners):
            yield first + np.flatnonzero([wanted[o] or (present[o] and videos[o].id in done) for o in owners])
