"""A unit's clips → vectors, begun before they are waited for: a GPU encodes while the unit before is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.media import Clip
from lab.store.ledger import STORED
from lab.store.writer import AudioRow, FrameRow

if TYPE_CHECKING:
    from lab.backbones.clip import ClipBackbone
    from lab.backbones.panns import PannsBackbone

Floats = NDArray[np.float32]
#: What came of each video of a unit; None for one that is not among those of this run.
Clips = Sequence[Clip | Exception | None]

PRESENCE_OF = {
    "ok": "present",
    "truncated": "present",
    "too_short": "present",
    "silent": "silent",
    "no_audio": "absent",
}


@dataclass(frozen=True)
class Begun:
    """Vectors on their way: a call waits for those of all frames that were shown, or of all sounds that were heard."""

    frames: Callable[[], Floats] | None
    audio: Callable[[], list[tuple[Floats, Floats]]] | None


def begin(modalities: frozenset[str], clips: Clips, clip: ClipBackbone | None, panns: PannsBackbone | None) -> Begun:
    """Begins to encode. Raises ``ValueError`` for a modality without its network."""
    frames = audio = None
    if "frames" in modalities:
        if clip is None:
            raise ValueError("frames need a CLIP backbone")
        shown = [seen.pictures for each in clips if (seen := _seen(each)) is not None]
        size = clip.image.size
        frames = clip.launch_frames(np.concatenate(shown) if shown else np.zeros((0, size, size, 3), np.uint8))
    if "audio" in modalities:
        if panns is None:
            raise ValueError("audio needs a PANN backbone")
        audio = panns.launch([sound for each in clips if (sound := _sound(each)) is not None])
    return Begun(frames, audio)


def frame_rows(clips: Clips, vectors: Floats) -> list[FrameRow | None]:
    """A row for each video, from the vectors of all frames."""
    shown = [_seen(each) for each in clips]
    counts = [0 if seen is None else len(seen.pictures) for seen in shown]
    parts: list[Floats] = np.split(vectors, np.cumsum(counts)[:-1])
    failed = FrameRow(vectors[:0], np.zeros(0), (), float("nan"))
    return [
        None if each is None else failed if seen is None else
        FrameRow(part, seen.times_s, seen.thumbnails, seen.duration_s)
        for each, seen, part in zip(clips, shown, parts, strict=True)
    ]  # fmt: skip


def audio_rows(clips: Clips, vectors: list[tuple[Floats, Floats]]) -> list[AudioRow | None]:
    """A row for each video, from the vectors of all sounds."""
    heard, rows = iter(vectors), list[AudioRow | None]()
    for each in clips:
        if not isinstance(each, Clip):
            rows.append(None if each is None else AudioRow(None, None, "unknown"))
            continue
        vector, segments = next(heard) if _sound(each) is not None else (None, None)
        rows.append(AudioRow(vector, segments, PRESENCE_OF.get(each.audio_status, "unknown")))
    return rows


def _seen(each: Clip | Exception | None) -> Clip | None:
    return each if isinstance(each, Clip) and each.frames_status in STORED else None


def _sound(each: Clip | Exception | None) -> NDArray[np.float32] | None:
    return each.audio if isinstance(each, Clip) and each.audio_status in STORED else None
