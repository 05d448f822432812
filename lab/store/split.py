"""A split of a store in memory: which rows of the tables it has, and their features as tensors.

``store.load`` is the door to it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError, unknown
from lab.store.layout import UNIT_CAPTIONS, token_rows

if TYPE_CHECKING:
    from lab.store.reader import Store


@dataclass(frozen=True)
class Coverage:
    """How much of a split the store holds, beside what its protocol lists."""

    videos: int
    videos_listed: int
    captions: int
    captions_listed: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left out."""
        return self.videos == self.videos_listed and self.captions == self.captions_listed


def rows_of(store: Store, split: str, protocol: str) -> tuple[NDArray[np.int64], NDArray[np.int64], Coverage]:
    """The rows of a split's videos and captions that have features, in order, beside how much that is of it.

    Raises ``LabError`` for an unknown split, and where tables and arrays are of different lengths.
    """
    if split not in store.splits_of(protocol):
        raise unknown(f"split of {store.name} {protocol}", split, store.splits_of(protocol))
    V, T = len(store.videos), len(store.captions)
    seen = store.read("frame_count") > 0 if "frames" in store.passport else np.zeros(V, bool)
    encoded = store.read("encoded") > 0 if "text" in store.passport else np.zeros(T, bool)
    if (len(seen), len(encoded)) != (V, T):
        raise LabError(
            f"{store.path} is damaged: its tables have {V} videos and {T} captions, "
            f"its arrays {len(seen)} and {len(encoded)}"
        )
    listed = np.fromiter((video["splits"].get(protocol) == split for video in store.videos), bool, V)
    asked = np.fromiter((caption["splits"].get(protocol) == split for caption in store.captions), bool, T)
    owner = np.fromiter((caption["video"] for caption in store.captions), np.int64, T)
    videos = np.flatnonzero(listed & seen)
    texts = np.flatnonzero(asked & encoded & np.isin(owner, videos))
    return videos, texts, Coverage(len(videos), int(listed.sum()), len(texts), int(asked.sum()))


def nothing_of(store: Store, split: str | None, protocol: str) -> LabError:
    """The error for a split, or a whole store, of which no video has frames: not begun, or no file was readable."""
    listed = {video["id"] for video in store.videos if split in (None, video["splits"].get(protocol))}
    failed = {entry.video for entry in store.ledger if entry.modality == "frames" and entry.failed}
    where = f"no video of split '{split}'" if split else "no video"
    if listed and listed <= failed:
        more = shlex.join(["python", "-m", "lab.inspect", str(store.path), "--all"])
        return LabError(
            f"{where} has features in {store.path}, of {len(listed):,} the pass could read none: mend what "
            f"{more} names, and run it again"
        )
    return LabError(f"{where} has features in {store.path}: run the pass on it first")


def load_videos(
    store: Store, rows: NDArray[np.int64], audio: Literal["clip", "segments"] | None, dtype: torch.dtype
) -> Videos:
    """Videos by row; options as in ``Store.load``."""
    frames = torch.from_numpy(store.take("frames", rows)).to(dtype)
    mask = _counted(store.take("frame_count", rows), frames.shape[1])
    if audio is None or "audio" not in store.passport:
        return Videos(frames, mask, rows=torch.from_numpy(rows))
    if audio == "clip":
        sound = torch.from_numpy(store.take("audio", rows)).to(dtype)[:, None]
        present = _counted(store.take("audio_segment_count", rows) > 0, 1)
    else:
        sound = torch.from_numpy(store.take("audio_segments", rows)).to(dtype)
        present = _counted(store.take("audio_segment_count", rows), sound.shape[1])
    return Videos(frames, mask, sound, present, torch.from_numpy(rows))


def load_texts(
    store: Store, rows: NDArray[np.int64], videos: NDArray[np.int64], words: bool, dtype: torch.dtype
) -> Texts:
    """Captions by row, whose videos are among ``videos`` (rows in order); options as in ``Store.load``."""
    owner = np.fromiter((store.captions[row]["video"] for row in rows), np.int64, len(rows))
    if not len(rows):
        dim = store.array("frames").shape[2]
        return Texts(torch.zeros(0, dim, dtype=dtype), video=torch.zeros(0, dtype=torch.int64))
    ragged = None
    if words:
        start, count = store.take("word_start", rows), store.take("word_count", rows).astype(np.int64)
        width = store.array("words").chunks[0]
        first = rows[0] // UNIT_CAPTIONS * width
        values = store.read("words", slice(first, (rows[-1] // UNIT_CAPTIONS + 1) * width))
        if 2 * count.sum() < len(values):  # a protocol that uses a few captions of many: keep only these
            values = values[token_rows(start - first, count)]
            start, first = np.cumsum(count) - count, 0
        ragged = RaggedWords(torch.from_numpy(values), torch.from_numpy(start - first), torch.from_numpy(count))
    sentences = torch.from_numpy(store.take("sentences", rows)).to(dtype)
    return Texts(sentences, ragged, None, torch.from_numpy(np.searchsorted(videos, owner)), torch.from_numpy(rows))


def _counted(counts: NDArray[Any], width: int) -> torch.Tensor:
    return torch.arange(width) < torch.from_numpy(counts.astype(np.int64))[:, None]
